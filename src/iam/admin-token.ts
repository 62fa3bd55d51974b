// The file `admin.token`: a token of the admin service account for people and scripts on this machine. It is replaced long before it
// ends, so that whoever reads it has hours left.
import { setTimeout as sleep } from 'node:timers/promises';
import { replaceFile } from '../platform/replace-file.ts';
import type { TokenAuthority } from './tokens.ts';

/** A token with less than this is replaced: half of its life. */
const minRemainingMs = 6 * 3600 * 1000;

/** Short, so that a machine that slept has a good token soon after it wakes. */
const defaultCheckIntervalMs = 60_000;

export interface AdminTokenOptions {
  authority: TokenAuthority;
  serviceAccountId: string;
  /** Where the token goes, mode 0600. */
  file: string;
  /** Hears when the file cannot be replaced; that is tried again every minute. */
  log?: { warn: (fields: object, text: string) => void } | undefined;
  /** For tests. */
  checkIntervalMs?: number;
  /** Milliseconds since 1970; for tests. */
  now?: () => number;
}

/** Writes the file and keeps it fresh until it is disposed of. @throws Error when the first write fails. */
export async function keepAdminToken(options: AdminTokenOptions): Promise<AsyncDisposable> {
  const { authority, serviceAccountId, file, log, checkIntervalMs = defaultCheckIntervalMs, now = Date.now } = options;
  const write = async (): Promise<number> => {
    const { token, expiresAt } = authority.issue({ id: serviceAccountId, type: 'serviceAccount' });
    await replaceFile(file, `${token}\n`);
    return expiresAt.getTime();
  };
  const stop = new AbortController();
  const keep = async (firstExpiry: number): Promise<void> => {
    let expiry = firstExpiry;
    while (!stop.signal.aborted) {
      await sleep(checkIntervalMs, undefined, { signal: stop.signal, ref: false }).catch(() => {});
      if (stop.signal.aborted || expiry - now() > minRemainingMs) continue;
      try {
        expiry = await write();
      } catch (error) {
        log?.warn({ err: error, file }, 'the admin token could not be replaced');
      }
    }
  };
  const keeping = keep(await write());
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await keeping;
    },
  };
}
