// Memory for verified blocks of 64 KiB, shared by all that read: bounded, and made of memory that threads share, so that one of them
// can fill a block that another one answers from. Which block goes when room is needed: a clock with second chances; what was used
// once only, as by a sequential reader, gets none, so a scan does not drive out what is used again and again.
import { blockBytes } from '../sizes.ts';

/** Who has a block in the cache. */
export interface BlockOwner {
  /** The block that was allocated under `key` is gone. Synchronous; allocates nothing. */
  evicted(key: number): void;
}

/** One block's memory. Its bytes are only used between two awaits, unless it is pinned: then they stay. */
export interface BlockSlot {
  readonly bytes: Buffer;
  /** Which slab of shared memory, and where in it. */
  readonly slab: number;
  readonly offset: number;
  owner: BlockOwner | undefined;
  key: number;
  pinned: boolean;
  usedAgain: boolean;
  /** Where the last use ended in the block: a use that goes on from there is the same sequential one. */
  usedTo: number;
}

const blocksPerSlab = 64;
/**
 * Where blocks begin in a slab. Large buffers of JavaScript begin 16 bytes behind a page, and copying from a page (a file's, in the
 * system's cache) to right behind one is three times slower on common processors, which take each load for a read of what was
 * just stored 4096 bytes away. So blocks lie 64 bytes behind a page.
 */
const slabOffset = 48;

export class BlockCache {
  readonly #maxBlocks: number;
  readonly #slots: BlockSlot[] = [];
  readonly #free: BlockSlot[] = [];
  readonly #slabs: SharedArrayBuffer[] = [];
  #hand = 0;

  /** @param maxBytes less than one block: nothing is kept. */
  constructor(maxBytes: number) {
    this.#maxBlocks = Math.floor(maxBytes / blockBytes);
  }

  get maxBytes(): number {
    return this.#maxBlocks * blockBytes;
  }

  /** Memory that is held, bytes. It grows with use up to the bound, and is not given back. */
  get heldBytes(): number {
    return this.#slots.length * blockBytes;
  }

  /** The shared memory behind the slots; grows at its end. */
  get slabs(): readonly SharedArrayBuffer[] {
    return this.#slabs;
  }

  /** A pinned block for `owner`, its bytes undefined; undefined when every block is pinned. */
  allocate(owner: BlockOwner, key: number): BlockSlot | undefined {
    const slot = this.#free.pop() ?? this.#grow() ?? this.#evict();
    if (slot === undefined) return undefined;
    slot.owner = owner;
    slot.key = key;
    slot.pinned = true;
    slot.usedAgain = false;
    slot.usedTo = 0;
    return slot;
  }

  /** Gives a block back; its owner does not hear of it. */
  release(slot: BlockSlot): void {
    slot.owner = undefined;
    slot.pinned = false;
    this.#free.push(slot);
  }

  #grow(): BlockSlot | undefined {
    if (this.#slots.length === this.#maxBlocks) return undefined;
    const slab = Math.floor(this.#slots.length / blocksPerSlab);
    const blocks = Math.min(blocksPerSlab, this.#maxBlocks - slab * blocksPerSlab);
    if (slab === this.#slabs.length) this.#slabs.push(new SharedArrayBuffer(slabOffset + blocks * blockBytes));
    const offset = slabOffset + (this.#slots.length % blocksPerSlab) * blockBytes;
    const bytes = Buffer.from(this.#slabs[slab]!, offset, blockBytes);
    const slot = { bytes, slab, offset, owner: undefined, key: 0, pinned: false, usedAgain: false, usedTo: 0 };
    this.#slots.push(slot);
    return slot;
  }

  #evict(): BlockSlot | undefined {
    // Two rounds: the first may only have taken second chances away.
    for (let step = 0; step < 2 * this.#slots.length; step += 1) {
      const slot = this.#slots[this.#hand]!;
      this.#hand = (this.#hand + 1) % this.#slots.length;
      if (slot.pinned) continue;
      if (slot.usedAgain) {
        slot.usedAgain = false;
        continue;
      }
      slot.owner?.evicted(slot.key);
      return slot;
    }
    return undefined;
  }
}

/** Bytes [start, end) of a block were used. */
export function use(slot: BlockSlot, start: number, end: number): void {
  if (start !== slot.usedTo) slot.usedAgain = true;
  slot.usedTo = end;
}
