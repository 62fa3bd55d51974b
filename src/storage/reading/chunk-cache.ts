// The chunks that are being read, by address: their headers, the blocks of them that are in memory, and the fetches under way. One
// fetch serves all that want the block; whoever waits is served the moment it arrives, before anything can drive the block out.
import type { ChunkAddress } from '../address.ts';
import { type ChunkHeader, encoding, zeroBlock } from '../chunk-format.ts';
import type { ChunkStore } from '../chunk-store.ts';
import { blockBytes, blocksPerChunk } from '../sizes.ts';
import { type BlockCache, type BlockOwner, type BlockSlot, use } from './block-cache.ts';

/** Fills blocks of a chunk, from `first` on, verified; the slots are pinned. As ChunkStore.readBlocks. */
export type FetchBlocks = (
  address: ChunkAddress,
  first: number,
  slots: readonly BlockSlot[],
  checks: Float64Array,
) => Promise<void>;

/** Blocks of one fetch, at most: 1 MiB. */
const blocksPerFetch = 16;

/** About 3 KiB each, without their blocks. */
const maxChunks = 8192;

export class ChunkCache {
  readonly blocks: BlockCache;
  readonly store: ChunkStore;
  readonly fetch: FetchBlocks;
  /** Blocks that are being fetched though nobody waits for them yet. */
  blocksAhead = 0;
  readonly #chunks = new Map<ChunkAddress, CachedChunk>();

  constructor(blocks: BlockCache, store: ChunkStore, fetch: FetchBlocks) {
    this.blocks = blocks;
    this.store = store;
    this.fetch = fetch;
  }

  /** How many blocks may be fetched ahead of readers together. */
  get maxBlocksAhead(): number {
    return Math.floor(this.blocks.maxBytes / blockBytes / 4);
  }

  chunk(address: ChunkAddress): CachedChunk {
    const known = this.#chunks.get(address);
    if (known !== undefined) {
      // A Map iterates in the order of insertion: what was asked for last goes to its end.
      this.#chunks.delete(address);
      this.#chunks.set(address, known);
      return known;
    }
    const chunk = new CachedChunk(this, address);
    this.#chunks.set(address, chunk);
    if (this.#chunks.size > maxChunks) this.#chunks.delete(this.#chunks.keys().next().value!);
    return chunk;
  }
}

/** Told when a block that was waited for is in memory (its bytes are valid during the call only), or cannot be had. */
export interface BlockWaiter {
  arrived(index: number, bytes: Uint8Array): void;
  failed(error: unknown): void;
}

interface Fetch {
  waiters: { index: number; waiter: BlockWaiter }[];
}

export class CachedChunk implements BlockOwner {
  readonly address: ChunkAddress;
  readonly #cache: ChunkCache;
  readonly #slots: (BlockSlot | undefined)[] = Array.from({ length: blocksPerChunk });
  readonly #fetches: (Fetch | undefined)[] = Array.from({ length: blocksPerChunk });
  /** Fingerprints of blocks that were verified, so that reading them again is cheaper; 0 where unknown. */
  readonly #checks = new Float64Array(blocksPerChunk);
  header: ChunkHeader | undefined;

  constructor(cache: ChunkCache, address: ChunkAddress) {
    this.#cache = cache;
    this.address = address;
  }

  evicted(key: number): void {
    this.#slots[key] = undefined;
  }

  async loadHeader(signal?: AbortSignal): Promise<ChunkHeader> {
    this.header = await this.#cache.store.header(this.address, signal);
    return this.header;
  }

  /** Copies bytes from `start` in the chunk into all of `target` if they are in memory; nothing is promised of it when not. */
  copyNow(target: Uint8Array, start: number): boolean {
    const { header } = this;
    if (header === undefined) return false;
    for (let at = 0; at < target.length;) {
      const index = Math.floor((start + at) / blockBytes);
      const from = start + at - index * blockBytes;
      const length = Math.min(blockBytes - from, target.length - at);
      if (!this.#copyBlock(header, index, target, at, from, length)) return false;
      at += length;
    }
    return true;
  }

  #copyBlock(header: ChunkHeader, index: number, target: Uint8Array, at: number, from: number, length: number): boolean {
    const slot = this.#slots[index];
    if (slot === undefined) {
      if (header.encodings[index] !== encoding.zero) return false;
      target.fill(0, at, at + length);
      return true;
    }
    slot.bytes.copy(target, at, from, from + length);
    use(slot, from, from + length);
    return true;
  }

  /**
   * Has every block of [first, end) told to `waiter`, at once where it is in memory, and fetches the others. With `ahead` instead of a
   * waiter the blocks are only fetched, as far as that is allowed. The header is there. False: there is no memory for a block; what
   * was asked for before it goes on.
   */
  want(first: number, end: number, waiter: BlockWaiter | 'ahead'): boolean {
    const header = this.header!;
    let run: { first: number; slots: BlockSlot[] } | undefined;
    for (let index = first; index < end; index += 1) {
      const slot = this.#slots[index];
      const isHere = slot !== undefined || header.encodings[index] === encoding.zero;
      const underWay = this.#fetches[index];
      if (waiter !== 'ahead') {
        if (slot !== undefined) waiter.arrived(index, slot.bytes);
        else if (isHere) waiter.arrived(index, zeroBlock);
        else underWay?.waiters.push({ index, waiter });
      }
      if (isHere || underWay !== undefined) {
        this.#start(run, waiter);
        run = undefined;
        continue;
      }
      const isSameKind = run === undefined || header.encodings[run.first] === header.encodings[index];
      if (run !== undefined && (run.slots.length === blocksPerFetch || !isSameKind)) {
        this.#start(run, waiter);
        run = undefined;
      }
      const isTooFar = waiter === 'ahead' && this.#cache.blocksAhead >= this.#cache.maxBlocksAhead;
      const room = isTooFar ? undefined : this.#cache.blocks.allocate(this, index);
      if (room === undefined) {
        this.#start(run, waiter);
        return false;
      }
      if (waiter === 'ahead') this.#cache.blocksAhead += 1;
      run ??= { first: index, slots: [] };
      run.slots.push(room);
    }
    this.#start(run, waiter);
    return true;
  }

  #start(run: { first: number; slots: BlockSlot[] } | undefined, waiter: BlockWaiter | 'ahead'): void {
    if (run === undefined) return;
    const { first, slots } = run;
    const fetch: Fetch = { waiters: [] };
    for (let at = 0; at < slots.length; at += 1) {
      this.#fetches[first + at] = fetch;
      if (waiter !== 'ahead') fetch.waiters.push({ index: first + at, waiter });
    }
    const ended = (): void => {
      if (waiter === 'ahead') this.#cache.blocksAhead -= slots.length;
      for (let at = 0; at < slots.length; at += 1) this.#fetches[first + at] = undefined;
    };
    this.#cache.fetch(this.address, first, slots, this.#checks).then(
      () => {
        ended();
        for (const [at, slot] of slots.entries()) {
          slot.pinned = false;
          this.#slots[first + at] = slot;
        }
        for (const { index, waiter: one } of fetch.waiters) one.arrived(index, slots[index - first]!.bytes);
      },
      (error: unknown) => {
        ended();
        for (const slot of slots) this.#cache.blocks.release(slot);
        for (const { waiter: one } of fetch.waiters) one.failed(error);
      },
    );
  }
}
