// What the system's error codes mean for a store.
import { TransientError } from '../../../platform/errors.ts';

export const codeOf = (error: unknown): string | undefined =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;

export const isMissing = (error: unknown): boolean => codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR';

const reasons: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk of the blob store is full',
  EDQUOT: 'the quota of the blob store on its disk is used up',
  EFBIG: 'the file system of the blob store takes no file of that size',
  EIO: 'the disk of the blob store failed',
  EROFS: 'the file system of the blob store is read-only',
  EACCES: 'the folder of the blob store does not permit it',
  EPERM: 'the folder of the blob store does not permit it',
  EXDEV: 'the folders of the blob store lie on more than one file system',
  EMFILE: 'this process has too many open files',
  ENFILE: 'this machine has too many open files',
  ENOMEM: 'this machine is out of memory',
  ETIMEDOUT: 'the blob store does not answer',
  ESTALE: 'the file system of the blob store was mounted anew',
  ENOTCONN: 'the file system of the blob store is away',
  ENODEV: 'the disk of the blob store is away',
  ENXIO: 'the disk of the blob store is away',
};

/** The error to throw for what a system call threw: the world's faults as TransientError without a path in it, ours as they are. */
export function storeError(error: unknown): unknown {
  const code = codeOf(error);
  const reason = code === undefined ? undefined : reasons[code];
  return reason === undefined ? error : new TransientError(`${reason} (${code})`, { cause: error });
}
