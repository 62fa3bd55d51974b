// What the system says of the file of a log, as errors of overlays.
import { TransientError } from '../../platform/errors.ts';
import { codeOf, storeError } from '../drivers/local/file-errors.ts';
import { OverlayFailedError, OverlayFullError } from './errors.ts';

const fullCodes: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/** The error for a write of the log that failed. */
export function writeError(error: unknown): Error {
  const code = codeOf(error) ?? 'unknown';
  return fullCodes.has(code)
    ? new OverlayFullError(`the disk that takes the writes is full (${code})`, { cause: error })
    : new OverlayFailedError(`writing the log of a disk failed (${code})`, { cause: error });
}

/** The error for a read of a log that the file system failed. */
export function readError(error: unknown): unknown {
  const known = storeError(error);
  return known instanceof TransientError
    ? new TransientError(known.message.replaceAll('blob store', 'log'), { cause: error })
    : error;
}
