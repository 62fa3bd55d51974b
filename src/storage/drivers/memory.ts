// A blob store in memory: for tests of what stands on one. Nothing survives the process.
import { assertBlobKey, assertBlobPrefix, assertBlobRange } from '../blob-key.ts';
import { BlobNotFoundError, type BlobRange, type BlobStore, type GetOptions, type PutOptions } from '../blob-store.ts';

/** @param objects the objects by key; given, so that several stores share them and tests can damage them. */
export function memoryBlobStore(objects: Map<string, Uint8Array> = new Map()): BlobStore {
  return new MemoryBlobStore(objects);
}

class MemoryBlobStore implements BlobStore {
  readonly #objects: Map<string, Uint8Array>;

  constructor(objects: Map<string, Uint8Array>) {
    this.#objects = objects;
  }

  async put(key: string, parts: readonly Uint8Array[], { replace = false, signal }: PutOptions = {}): Promise<void> {
    assertBlobKey(key);
    signal?.throwIfAborted();
    // As with a real store, other work runs between the call and its effect.
    await Promise.resolve();
    signal?.throwIfAborted();
    if (replace || !this.#objects.has(key)) this.#objects.set(key, Uint8Array.from(Buffer.concat(parts)));
  }

  async get(key: string, range?: BlobRange, { signal }: GetOptions = {}): Promise<Uint8Array> {
    assertBlobKey(key);
    signal?.throwIfAborted();
    const object = this.#objects.get(key);
    if (object === undefined) throw new BlobNotFoundError(key);
    const { offset, length } = range ?? { offset: 0, length: object.length };
    assertBlobRange(key, { offset, length }, object.length);
    return object.slice(offset, offset + length);
  }

  async stat(key: string): Promise<{ sizeBytes: number } | undefined> {
    assertBlobKey(key);
    const object = this.#objects.get(key);
    return object && { sizeBytes: object.length };
  }

  async delete(key: string): Promise<void> {
    assertBlobKey(key);
    this.#objects.delete(key);
  }

  async *list(prefix: string): AsyncGenerator<{ key: string; sizeBytes: number }> {
    assertBlobPrefix(prefix);
    for (const key of [...this.#objects.keys()].sort()) {
      const object = this.#objects.get(key);
      if (key.startsWith(prefix) && object !== undefined) yield { key, sizeBytes: object.length };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
