// The guest's view of a layer for the hot path: what is in memory is answered at once, without a promise; the rest is fetched, verified
// and kept in the storage's block cache, and what a sequential reader wants next is fetched ahead of it.
import { assertRange } from '../platform/byte-source.ts';
import { Semaphore } from '../platform/semaphore.ts';
import type { PageAddress } from './address.ts';
import { encoding } from './chunk-format.ts';
import { type Extent, addExtent } from './extents.ts';
import type { Layer } from './layers.ts';
import type { Storage } from './open.ts';
import { BlockRead } from './reading/block-read.ts';
import type { CachedChunk, ChunkCache } from './reading/chunk-cache.ts';
import { ReadAhead } from './reading/read-ahead.ts';
import { blockBytes, chunkBytes, maxLayerChunks } from './sizes.ts';
import { settleAll } from '../platform/until-aborted.ts';

/** Verified bytes at any offset, zeros in the holes. Safe to use concurrently; costs nothing to drop. */
export interface LayerView {
  /** The guest's size, bytes. What the layer holds beyond it is not readable. */
  readonly sizeBytes: number;

  /**
   * Fills `target` when all of it is in memory: true. False: nothing can be said of what is in `target`, use `read`.
   * @throws RangeError outside of the view.
   */
  readNow(target: Uint8Array, offset: number): boolean;

  /**
   * Fills `target`. Nothing writes into it after the promise has settled.
   * @throws DomainError DATA_LOSS where stored data is damaged; TransientError when the store is away; signal.reason; RangeError.
   */
  read(target: Uint8Array, offset: number, signal?: AbortSignal): Promise<void>;

  /**
   * Runs from `offset` on, in order, at most `maxRuns` and at least one; together at most `length`, perhaps less. Holes are chunks and
   * blocks that are not stored. @throws as read; `length` and `maxRuns` are at least 1.
   */
  extents(offset: number, length: number, maxRuns: number, signal?: AbortSignal): Promise<Extent[]>;
}

/**
 * @param root undefined for a disk of zeros.
 * @throws PageCorruptError (DATA_LOSS) when the root page is damaged; TransientError when the store is away.
 */
export async function openLayerView(
  storage: Storage,
  root: PageAddress | undefined,
  sizeBytes: number,
  signal?: AbortSignal,
): Promise<LayerView> {
  assertRange(maxLayerChunks * chunkBytes, 0, sizeBytes);
  if (root === undefined) return new ZeroView(sizeBytes);
  return new StoredLayerView(await storage.layers.open(root, signal), storage.cache, sizeBytes);
}

/** Chunks that one read fetches from at once. */
const chunksAtOnce = 4;
/** Chunks whose addresses a view remembers; beyond it forgets all of them. */
const maxKnownChunks = 16384;
/** Headers that one question for extents may fetch. */
const headersAtOnce = 64;

class StoredLayerView implements LayerView {
  readonly sizeBytes: number;
  readonly #layer: Layer;
  readonly #cache: ChunkCache;
  readonly #readAhead: ReadAhead;
  /** null for zeros. */
  readonly #chunks = new Map<number, CachedChunk | null>();

  constructor(layer: Layer, cache: ChunkCache, sizeBytes: number) {
    this.#layer = layer;
    this.#cache = cache;
    this.sizeBytes = sizeBytes;
    this.#readAhead = new ReadAhead(sizeBytes, (offset, end) => void this.#fetchAhead(offset, end));
  }

  readNow(target: Uint8Array, offset: number): boolean {
    assertRange(this.sizeBytes, offset, target.length);
    if (!this.#copyNow(target, offset)) return false;
    this.#readAhead.saw(offset, target.length, false);
    return true;
  }

  #copyNow(target: Uint8Array, offset: number): boolean {
    let index = Math.floor(offset / chunkBytes);
    let start = offset - index * chunkBytes;
    if (start + target.length <= chunkBytes) return this.#copyPartNow(index, target, start);
    for (let at = 0; at < target.length; index += 1, start = 0) {
      const length = Math.min(chunkBytes - start, target.length - at);
      if (!this.#copyPartNow(index, target.subarray(at, at + length), start)) return false;
      at += length;
    }
    return true;
  }

  #copyPartNow(index: number, target: Uint8Array, start: number): boolean {
    const chunk = this.#chunks.get(index);
    if (chunk === null) {
      target.fill(0);
      return true;
    }
    return chunk !== undefined && chunk.copyNow(target, start);
  }

  async read(target: Uint8Array, offset: number, signal?: AbortSignal): Promise<void> {
    assertRange(this.sizeBytes, offset, target.length);
    signal?.throwIfAborted();
    this.#readAhead.saw(offset, target.length, true);
    const first = Math.floor(offset / chunkBytes);
    const last = Math.floor((offset + Math.max(target.length, 1) - 1) / chunkBytes);
    if (first === last) return this.#readPart(first, target, offset - first * chunkBytes, signal);
    const turns = new Semaphore(chunksAtOnce);
    const parts: Promise<void>[] = [];
    for (let index = first; index <= last; index += 1) {
      const start = Math.max(0, offset - index * chunkBytes);
      const at = index * chunkBytes + start - offset;
      const part = target.subarray(at, Math.min(at + chunkBytes - start, target.length));
      parts.push(this.#readPartInTurn(turns, index, part, start, signal));
    }
    await settleAll(parts);
  }

  async #readPartInTurn(turns: Semaphore, index: number, part: Uint8Array, start: number, signal?: AbortSignal): Promise<void> {
    const release = await turns.acquire(signal);
    try {
      await this.#readPart(index, part, start, signal);
    } finally {
      release();
    }
  }

  async #readPart(index: number, part: Uint8Array, start: number, signal?: AbortSignal): Promise<void> {
    const chunk = await this.#chunk(index, signal);
    if (chunk === null) {
      part.fill(0);
      return;
    }
    if (chunk.header === undefined) await chunk.loadHeader(signal);
    const first = Math.floor(start / blockBytes);
    const end = Math.ceil((start + part.length) / blockBytes);
    const read = new BlockRead(part, start, end - first, signal);
    if (chunk.want(first, end, read)) return read.promise;
    // Too little memory to go through: read past the cache.
    read.failed(undefined);
    await read.promise.catch(() => undefined);
    await this.#cache.store.read(chunk.address, part, start, signal);
  }

  async #chunk(index: number, signal?: AbortSignal): Promise<CachedChunk | null> {
    const known = this.#chunks.get(index);
    if (known !== undefined) return known;
    const address = await this.#layer.lookup(index, signal);
    const chunk = address === undefined ? null : this.#cache.chunk(address);
    if (this.#chunks.size >= maxKnownChunks) this.#chunks.clear();
    this.#chunks.set(index, chunk);
    return chunk;
  }

  /** Whatever goes wrong is for the reader to meet when it gets there. */
  async #fetchAhead(offset: number, end: number): Promise<void> {
    try {
      for (let at = offset; at < end;) {
        const index = Math.floor(at / chunkBytes);
        const next = Math.min(end, (index + 1) * chunkBytes);
        const chunk = await this.#chunk(index);
        if (chunk !== null) {
          if (chunk.header === undefined) await chunk.loadHeader();
          const start = at - index * chunkBytes;
          if (!chunk.want(Math.floor(start / blockBytes), Math.ceil((start + next - at) / blockBytes), 'ahead')) return;
        }
        at = next;
      }
    } catch {
      // See above.
    }
  }

  async extents(offset: number, length: number, maxRuns: number, signal?: AbortSignal): Promise<Extent[]> {
    assertRange(this.sizeBytes, offset, length);
    const runs: Extent[] = [];
    const end = offset + length;
    let headers = 0;
    for (let at = offset; at < end && runs.length <= maxRuns;) {
      const index = Math.floor(at / chunkBytes);
      const zerosUntil = Math.max(index, this.#layer.zerosUntil(index));
      const chunk = zerosUntil > index ? null : await this.#chunk(index, signal);
      if (chunk === null) {
        const next = Math.min(end, Math.max(zerosUntil, index + 1) * chunkBytes);
        addExtent(runs, next - at, true, true);
        at = next;
        continue;
      }
      if (chunk.header === undefined) {
        if (headers === headersAtOnce && runs.length > 0) break;
        headers += 1;
        await chunk.loadHeader(signal);
      }
      const next = Math.min(end, (index + 1) * chunkBytes);
      addBlocks(runs, chunk.header!.encodings, at - index * chunkBytes, next - index * chunkBytes);
      at = next;
    }
    return runs.slice(0, maxRuns);
  }
}

/** Adds the blocks of [start, end) of a chunk. */
function addBlocks(runs: Extent[], encodings: Uint8Array, start: number, end: number): void {
  for (let at = start; at < end;) {
    const index = Math.floor(at / blockBytes);
    const next = Math.min(end, (index + 1) * blockBytes);
    const isZero = encodings[index] === encoding.zero;
    addExtent(runs, next - at, isZero, isZero);
    at = next;
  }
}

class ZeroView implements LayerView {
  readonly sizeBytes: number;

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
  }

  readNow(target: Uint8Array, offset: number): boolean {
    assertRange(this.sizeBytes, offset, target.length);
    target.fill(0);
    return true;
  }

  async read(target: Uint8Array, offset: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.readNow(target, offset);
  }

  async extents(offset: number, length: number): Promise<Extent[]> {
    assertRange(this.sizeBytes, offset, length);
    return [{ length, hole: true, zero: true }];
  }
}
