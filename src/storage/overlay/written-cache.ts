// Sectors of the logs of one overlay that are in memory, by where they lie on the disk: what was written or read a moment ago. A block
// of the shared cache holds one group; a mask says which of its sectors are the current ones.
import { type BlockCache, type BlockOwner, type BlockSlot, use } from '../reading/block-cache.ts';
import { groupBytes, sectorsPerGroup } from './generation-index.ts';
import { sectorBytes } from './log-format.ts';

interface CachedGroup {
  slot: BlockSlot;
  /** Bit s: sector s is here. */
  mask: number;
}

const wholeMask = 2 ** sectorsPerGroup - 1;

export class WrittenCache implements BlockOwner {
  readonly #blocks: BlockCache;
  readonly #groups = new Map<number, CachedGroup>();

  constructor(blocks: BlockCache) {
    this.#blocks = blocks;
  }

  evicted(group: number): void {
    this.#groups.delete(group);
  }

  /** Copies [offset, end), which lies in one sector, into the target at `at`; false when it is not here. */
  copy(target: Uint8Array, at: number, offset: number, end: number): boolean {
    const group = Math.floor(offset / groupBytes);
    const cached = this.#groups.get(group);
    if (cached === undefined) return false;
    const from = offset - group * groupBytes;
    if ((cached.mask & (1 << Math.floor(from / sectorBytes))) === 0) return false;
    const to = end - group * groupBytes;
    cached.slot.bytes.copy(target, at, from, to);
    use(cached.slot, from, to);
    return true;
  }

  /** Whole sectors that were written or read. @param makesRoom else only what is here already is renewed. */
  set(offset: number, data: Uint8Array, makesRoom: boolean): void {
    for (let at = 0; at < data.length;) {
      const group = Math.floor((offset + at) / groupBytes);
      const from = offset + at - group * groupBytes;
      const length = Math.min(groupBytes - from, data.length - at);
      const cached = this.#groups.get(group) ?? (makesRoom ? this.#make(group) : undefined);
      if (cached !== undefined) {
        cached.slot.bytes.set(data.subarray(at, at + length), from);
        cached.mask |= maskOf(from, length);
      }
      at += length;
    }
  }

  /** Whole sectors that are no longer what they were. */
  forget(offset: number, length: number): void {
    const first = Math.floor(offset / groupBytes);
    const last = Math.floor((offset + length - 1) / groupBytes);
    if (last - first < this.#groups.size) for (let group = first; group <= last; group += 1) this.#forget(group, offset, length);
    else for (const group of this.#groups.keys()) if (group >= first && group <= last) this.#forget(group, offset, length);
  }

  #forget(group: number, offset: number, length: number): void {
    const cached = this.#groups.get(group);
    if (cached === undefined) return;
    const from = Math.max(0, offset - group * groupBytes);
    const to = Math.min(groupBytes, offset + length - group * groupBytes);
    cached.mask &= ~maskOf(from, to - from);
    if (cached.mask === 0) this.#drop(group, cached);
  }

  #make(group: number): CachedGroup | undefined {
    const slot = this.#blocks.allocate(this, group);
    if (slot === undefined) return undefined;
    slot.pinned = false;
    const cached = { slot, mask: 0 };
    this.#groups.set(group, cached);
    return cached;
  }

  #drop(group: number, { slot }: CachedGroup): void {
    this.#groups.delete(group);
    this.#blocks.release(slot);
  }

  [Symbol.dispose](): void {
    for (const [group, cached] of this.#groups) this.#drop(group, cached);
  }
}

function maskOf(from: number, length: number): number {
  const first = from / sectorBytes;
  const count = length / sectorBytes;
  return count === sectorsPerGroup ? wholeMask : ((1 << count) - 1) << first;
}
