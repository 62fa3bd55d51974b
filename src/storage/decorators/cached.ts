import type { BlobRange, BlobStore, GetOptions, PutOptions } from '../blob-store.ts';
import { Lru } from '../lru.ts';
import { untilAborted } from '../../platform/until-aborted.ts';

/**
 * Keeps ranges that were read, up to `maxBytes` together, and asks once for what several readers want at the same time. Ranges are kept
 * as they were asked for. What is kept is not verified: readers that find it wrong ask with `fresh`. A replacement by another process
 * may be seen late.
 */
export function cached(store: BlobStore, maxBytes: number): BlobStore {
  return new CachedBlobStore(store, maxBytes);
}

class CachedBlobStore implements BlobStore {
  readonly #store: BlobStore;
  readonly #ranges: Lru<Uint8Array>;
  /** The names of the ranges of a key that may be kept, to forget them with the key. */
  readonly #namesByKey = new Map<string, Set<string>>();
  readonly #underWay = new Map<string, Promise<Uint8Array>>();

  constructor(store: BlobStore, maxBytes: number) {
    this.#store = store;
    this.#ranges = new Lru(
      maxBytes,
      (bytes) => bytes.length,
      (name) => this.#forgetName(name),
    );
  }

  async get(key: string, range?: BlobRange, options: GetOptions = {}): Promise<Uint8Array> {
    const { fresh = false, signal } = options;
    signal?.throwIfAborted();
    const name = `${key} ${range === undefined ? 'whole' : `${range.offset}+${range.length}`}`;
    if (fresh) this.#forget(key);
    const known = this.#ranges.get(name) ?? this.#underWay.get(name);
    // The fetch is shared, so no single reader's signal ends it.
    return untilAborted(Promise.resolve(known ?? this.#fetch(key, name, range, fresh)), signal);
  }

  #fetch(key: string, name: string, range: BlobRange | undefined, fresh: boolean): Promise<Uint8Array> {
    const started = this.#store
      .get(key, range, { fresh })
      .then((bytes) => {
        // Not kept when the key was forgotten meanwhile: these may be the bytes from before.
        if (this.#underWay.get(name) === started) this.#keep(key, name, bytes);
        return bytes;
      })
      .finally(() => {
        if (this.#underWay.get(name) === started) this.#underWay.delete(name);
      });
    this.#underWay.set(name, started);
    return started;
  }

  #keep(key: string, name: string, bytes: Uint8Array): void {
    this.#ranges.set(name, bytes);
    if (this.#ranges.get(name) === undefined) return;
    const names = this.#namesByKey.get(key);
    if (names === undefined) this.#namesByKey.set(key, new Set([name]));
    else names.add(name);
  }

  #forgetName(name: string): void {
    const key = name.slice(0, name.indexOf(' '));
    const names = this.#namesByKey.get(key);
    names?.delete(name);
    if (names?.size === 0) this.#namesByKey.delete(key);
  }

  #forget(key: string): void {
    for (const name of this.#namesByKey.get(key) ?? []) this.#ranges.delete(name);
    for (const name of this.#underWay.keys()) if (name.startsWith(`${key} `)) this.#underWay.delete(name);
  }

  async put(key: string, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<void> {
    try {
      await this.#store.put(key, parts, options);
    } finally {
      if (options.replace) this.#forget(key);
    }
  }

  async delete(key: string): Promise<void> {
    try {
      await this.#store.delete(key);
    } finally {
      this.#forget(key);
    }
  }

  stat(key: string): Promise<{ sizeBytes: number } | undefined> {
    return this.#store.stat(key);
  }

  list(prefix: string): AsyncIterable<{ key: string; sizeBytes: number }> {
    return this.#store.list(prefix);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]();
  }
}
