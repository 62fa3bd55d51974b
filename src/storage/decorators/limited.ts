import { Semaphore } from '../../platform/semaphore.ts';
import type { BlobRange, BlobStore, GetOptions, PutOptions } from '../blob-store.ts';

export interface Limits {
  /** Puts and deletes at once. */
  writes: number;
  /** Gets and stats at once; apart from writes, so that an import does not starve a guest. */
  reads: number;
}

/** Bounds how many calls reach the store at once; the others wait in order. Listings are not counted. */
export function limited(store: BlobStore, limits: Limits): BlobStore {
  return new LimitedBlobStore(store, limits);
}

class LimitedBlobStore implements BlobStore {
  readonly #store: BlobStore;
  readonly #writes: Semaphore;
  readonly #reads: Semaphore;

  constructor(store: BlobStore, limits: Limits) {
    this.#store = store;
    this.#writes = new Semaphore(limits.writes);
    this.#reads = new Semaphore(limits.reads);
  }

  async put(key: string, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<void> {
    using _permit = await permit(this.#writes, options.signal);
    await this.#store.put(key, parts, options);
  }

  async get(key: string, range?: BlobRange, options: GetOptions = {}): Promise<Uint8Array> {
    using _permit = await permit(this.#reads, options.signal);
    return await this.#store.get(key, range, options);
  }

  async stat(key: string): Promise<{ sizeBytes: number } | undefined> {
    using _permit = await permit(this.#reads);
    return await this.#store.stat(key);
  }

  async delete(key: string): Promise<void> {
    using _permit = await permit(this.#writes);
    await this.#store.delete(key);
  }

  list(prefix: string): AsyncIterable<{ key: string; sizeBytes: number }> {
    return this.#store.list(prefix);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]();
  }
}

async function permit(semaphore: Semaphore, signal?: AbortSignal): Promise<Disposable> {
  return { [Symbol.dispose]: await semaphore.acquire(signal) };
}
