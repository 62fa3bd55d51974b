import type { TokenAuthority } from '../iam/tokens.ts';
import type { Operations } from '../operations/operations.ts';

/** What ServiceAccountService is made of. */
export interface AccountParts {
  operations: Operations;
  /** Hears of accounts that may not act any more. */
  authority: Pick<TokenAuthority, 'forgetAccount'>;
}
