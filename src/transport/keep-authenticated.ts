// A stream outlives the moment at which its caller was authenticated: while it runs the token is checked again and again, so that one that
// was revoked, has expired or lost its account ends it. A token that is remembered costs no query.
import { DomainError } from '../platform/errors.ts';

/** As often as tokens are forgotten that other processes ended (iam/tokens.ts). */
export const recheckMs = 2_000;

/**
 * Until disposed of. Whatever refuses the token aborts the call with that refusal. When it cannot be told whether the token is good, the
 * call goes on: what it is sent is read from the same database.
 */
export function keepAuthenticated(
  call: { abort(reason: DomainError): void },
  authenticate: () => Promise<unknown>,
  intervalMs = recheckMs,
): Disposable {
  let isChecking = false;
  const check = async (): Promise<void> => {
    if (isChecking) return;
    isChecking = true;
    try {
      await authenticate();
    } catch (error) {
      if (error instanceof DomainError) call.abort(error);
    } finally {
      isChecking = false;
    }
  };
  const timer = setInterval(() => void check(), intervalMs);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
