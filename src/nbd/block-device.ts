// What an NBD connection opens: a device of bytes that somebody else implements. Offsets and lengths are bytes, safe integers, and always
// inside the device: the session has checked them before it calls. The minimum block is one byte; whoever stores sectors patches
// them himself. Calls overlap and may settle in any order; a client that cares about order waits for the answer.

/** One answer to "what is there": `length` bytes of one kind. A hole takes no space; zero reads as zeros. Mostly both are the same. */
export interface BlockRun {
  length: number;
  hole: boolean;
  zero: boolean;
}

export interface WriteZeroesOptions {
  /** Durable when it resolves. */
  fua: boolean;
  /** The range may become a hole. */
  mayTrim: boolean;
  /** Refuse with ENOTSUP, at once, rather than be as slow as a write of that many zeros. */
  fast: boolean;
}

/** Open until disposed; disposal comes after every call has settled, also when `ended` fired. */
export interface BlockDevice extends AsyncDisposable {
  /** Fixed for the life of the device. */
  readonly sizeBytes: number;
  /** The session refuses changes by itself then. */
  readonly readOnly: boolean;
  /** What clients should align to for speed: a power of two, 512 to 32 MiB. */
  readonly preferredBlockBytes: number;
  /** Whether a flush on one connection covers what other connections wrote. True for what cannot be written at all. */
  readonly multiConn: boolean;
  /**
   * Aborts when the export must end: revoked, deleted, lease lost. The session closes its connection then, without answering what is
   * in flight.
   */
  readonly ended: AbortSignal;

  /** Fills `target` at once when everything is in memory, for the hot path. False: nothing is promised of `target`, use read(). */
  readNow?(target: Uint8Array, offset: number): boolean;
  /** Fills the whole of `target`. */
  read(target: Uint8Array, offset: number, signal: AbortSignal): Promise<void>;
  /** `data` is only valid until the promise settles. fua: durable when it resolves. */
  write(data: Uint8Array, offset: number, fua: boolean, signal: AbortSignal): Promise<void>;
  /** All writes that had resolved when it was called are durable when it resolves. */
  flush(signal: AbortSignal): Promise<void>;
  /** The range may read as zeros or as before; a hint to give space back. */
  trim(offset: number, length: number, fua: boolean, signal: AbortSignal): Promise<void>;
  /** The range reads as zeros when it resolves. */
  writeZeroes(offset: number, length: number, options: WriteZeroesOptions, signal: AbortSignal): Promise<void>;
  /**
   * What lies from `offset` on, in order, without gaps: at least one run, at most `maxRuns`, none of them empty. They may end before or
   * behind offset + length: a device looks no further than it likes.
   */
  blockStatus(offset: number, length: number, maxRuns: number, signal: AbortSignal): Promise<BlockRun[]>;
}

/** The errors that a client can be told; POSIX names. */
export type BlockDeviceErrorCode = 'EPERM' | 'EIO' | 'ENOMEM' | 'EINVAL' | 'ENOSPC' | 'EOVERFLOW' | 'ENOTSUP' | 'ESHUTDOWN';

/** What a device throws so that the client hears the code. Anything else thrown is EIO to the client, and reported to the server's owner. */
export class BlockDeviceError extends Error {
  override readonly name = 'BlockDeviceError';
  readonly code: BlockDeviceErrorCode;

  constructor(code: BlockDeviceErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
