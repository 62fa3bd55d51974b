/**
 * Keeps immutable objects under opaque keys. The contract, tested for every driver and every stack of decorators by
 * test/contract/blob-store.contract.ts:
 *
 * - A key is 1 to 200 characters of [a-z0-9/._-] in segments between slashes; a segment is not empty and starts with a letter or a
 *   digit. No key is a folder of another key. See blob-key.ts.
 * - `put` resolves only when the object would survive a power loss; until its bytes are whole no reader sees any part of it. Putting
 *   an existing key again is a success, writes nothing and changes nothing: of concurrent puts the first wins, whatever the bytes, and
 *   the others resolve when the winner is durable. With `replace` the bytes are written anew and swapped in atomically.
 * - A failed or aborted `put` leaves nothing that `list` or `get` shows; only a put that fails at its very last step, after the
 *   object became visible, may leave it, whole.
 * - `get` of a range answers exactly that range, or throws: short objects are an error, never a short answer.
 * - All of it holds between processes and threads that share the store, not only within one.
 */
export interface BlobStore extends AsyncDisposable {
  /**
   * `parts` are concatenated, read until the promise settles (or `onTaken` is called) and not kept after.
   * @throws TransientError when the store is full or away.
   */
  put(key: string, parts: readonly Uint8Array[], options?: PutOptions): Promise<void>;

  /**
   * The object's bytes, or those of `range`. Not to be written to: the answer may be shared with other readers.
   * @throws BlobNotFoundError; RangeError when the range is not inside the object; TransientError when the store is away.
   */
  get(key: string, range?: BlobRange, options?: GetOptions): Promise<Uint8Array>;

  /**
   * As get, into memory of the caller's: fills the targets, one after another, with the bytes from `offset` on. Only of stores that
   * save a copy by it. When it fails, what is in the targets is undefined.
   */
  readInto?(key: string, offset: number, targets: readonly Uint8Array[], options?: GetOptions): Promise<void>;

  /** The object's size, or undefined when there is none. */
  stat(key: string): Promise<{ sizeBytes: number } | undefined>;

  /** Deleting a key that does not exist is a success. Lasting when it resolves. */
  delete(key: string): Promise<void>;

  /** Keys that start with `prefix`, ascending by byte, each once; objects put or deleted meanwhile may or may not show. */
  list(prefix: string): AsyncIterable<{ key: string; sizeBytes: number }>;
}

export interface PutOptions {
  replace?: boolean;
  /** The object will be read soon: it may stay in the system's cache, where there is one. */
  warm?: boolean;
  /**
   * Called at most once, when the bytes of `parts` are with the system, long before they are durable: the memory is the caller's again.
   * What fails after it is not tried again by the store. Stores need not make use of it.
   */
  onTaken?: (() => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface BlobRange {
  offset: number;
  length: number;
}

export interface GetOptions {
  signal?: AbortSignal | undefined;
  /** Asks the store itself: no cache, no file that was opened before. For readers that were given bytes that cannot be right. */
  fresh?: boolean | undefined;
  /** The caller's thread may wait for the disk: saves handing the work to another thread. Stores need not make use of it. */
  blocking?: boolean | undefined;
}

export class BlobNotFoundError extends Error {
  override readonly name = 'BlobNotFoundError';
  readonly key: string;

  constructor(key: string) {
    super(`no object ${key}`);
    this.key = key;
  }
}
