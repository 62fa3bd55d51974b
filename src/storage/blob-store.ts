/**
 * Keeps immutable objects under opaque keys. The contract, tested for every driver and every stack of decorators by
 * test/contract/blob-store.contract.ts:
 *
 * - A key is 1 to 200 characters of [a-z0-9/._-], without empty or dot segments; its bytes never change while it exists.
 * - `put` resolves only when the object would survive a power loss; until then no reader sees any part of it. Putting an existing
 *   key again is a success and may skip the write, unless `replace` is set: then the bytes are written anew and swapped in atomically.
 * - A failed or aborted `put` leaves nothing behind that `list` or `get` shows.
 * - `get` of a range answers exactly that range, or throws: short objects are an error, never a short answer.
 */
export interface BlobStore extends AsyncDisposable {
  /** @throws TransientError when the store is full or away. `parts` are concatenated and not kept after the promise settles. */
  put(key: string, parts: readonly Uint8Array[], options?: { replace?: boolean; signal?: AbortSignal }): Promise<void>;

  /** @throws BlobNotFoundError; RangeError when the range is not inside the object. */
  get(key: string, range?: { offset: number; length: number }, signal?: AbortSignal): Promise<Uint8Array>;

  /** The object's size, or undefined when there is none. */
  stat(key: string): Promise<{ sizeBytes: number } | undefined>;

  /** Deleting a key that does not exist is a success. */
  delete(key: string): Promise<void>;

  /** Keys that start with `prefix`, ascending by byte, each once; objects put or deleted meanwhile may or may not show. */
  list(prefix: string): AsyncIterable<{ key: string; sizeBytes: number }>;
}

export class BlobNotFoundError extends Error {
  override readonly name = 'BlobNotFoundError';
  readonly key: string;

  constructor(key: string) {
    super(`no object ${key}`);
    this.key = key;
  }
}
