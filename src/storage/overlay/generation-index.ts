// Where a generation has each sector: in memory, by groups of 16 sectors (64 KiB), the block of a chunk. A group that is listed knows
// all of its sectors; a group that is not may lie in a long stretch of zeros. Memory is bounded by what was written: about 170 bytes for
// a group, whatever the size of the disk.
import { positionUnit, sectorBytes } from './log-format.ts';
import { ZeroRanges } from './zero-ranges.ts';

export const sectorsPerGroup = 16;
export const groupBytes = sectorsPerGroup * sectorBytes;

/** What `find` answers when it is no slot. */
export const wholeGroup = { absent: -1, zeros: -2, trimmed: -3 } as const;

/** Values of a sector's position that are no positions: a position is behind the file's header. */
export const sectorState = { absent: 0, zeros: 1, trimmed: 2, firstPosition: 256 } as const;

const slotWords = 2 * sectorsPerGroup;
const slotsPerSlab = 1024;
/** A Map's entry and its share of a slab. */
const groupMemoryBytes = 40;

/** Fewer groups than this are listed one by one; 4 MiB. */
const longStretchGroups = 64;

export class GenerationIndex {
  readonly #groups = new Map<number, number>();
  /** Slot s: 16 positions and 16 checksums from word 32 s on. */
  readonly #slabs: Uint32Array[] = [];
  #slotsUsed = 0;
  readonly #free: number[] = [];
  readonly #stretches = new ZeroRanges();

  /** Bytes, about. */
  get memoryBytes(): number {
    return this.#groups.size * groupMemoryBytes + this.#slabs.length * slotsPerSlab * slotWords * 4 + this.#stretches.count * 24;
  }

  get isEmpty(): boolean {
    return this.#groups.size === 0 && this.#stretches.count === 0;
  }

  /** A slot (0 or more), or one of wholeGroup. */
  find(group: number): number {
    const known = this.#groups.get(group);
    if (known !== undefined) return known;
    if (this.#stretches.count === 0) return wholeGroup.absent;
    const stretch = this.#stretches.find(group);
    if (stretch === undefined) return wholeGroup.absent;
    return stretch.trimmed ? wholeGroup.trimmed : wholeGroup.zeros;
  }

  /** Of a sector of a slot: a position in units of 16 bytes, or one of sectorState. */
  position(slot: number, sectorInGroup: number): number {
    return this.#slabs[Math.floor(slot / slotsPerSlab)]![(slot % slotsPerSlab) * slotWords + sectorInGroup]!;
  }

  /** CRC-32 of a sector that has a position. */
  check(slot: number, sectorInGroup: number): number {
    return this.#slabs[Math.floor(slot / slotsPerSlab)]![(slot % slotsPerSlab) * slotWords + sectorsPerGroup + sectorInGroup]!;
  }

  /** Sectors [first, first + checks.length) of the disk now lie in the log one after another from byte `position` on. */
  setData(first: number, position: number, checks: ArrayLike<number>): void {
    let unit = position / positionUnit;
    let group = -1;
    let words: Uint32Array = emptyWords;
    let base = 0;
    for (let index = 0; index < checks.length; index += 1) {
      const sector = first + index;
      const sectorInGroup = sector % sectorsPerGroup;
      if (group === -1 || sectorInGroup === 0) {
        group = (sector - sectorInGroup) / sectorsPerGroup;
        const slot = this.#slotOf(group);
        words = this.#slabs[Math.floor(slot / slotsPerSlab)]!;
        base = (slot % slotsPerSlab) * slotWords;
      }
      words[base + sectorInGroup] = unit;
      words[base + sectorsPerGroup + sectorInGroup] = checks[index]!;
      unit += sectorBytes / positionUnit;
    }
  }

  /** Sectors [first, first + count) of the disk now are zeros. */
  setZeros(first: number, count: number, trimmed: boolean): void {
    const end = first + count;
    const firstWhole = Math.ceil(first / sectorsPerGroup);
    const endWhole = Math.floor(end / sectorsPerGroup);
    if (firstWhole > endWhole) return this.#setSectors(first, end, trimmed);
    this.#setSectors(first, firstWhole * sectorsPerGroup, trimmed);
    this.#setGroups(firstWhole, endWhole, trimmed);
    this.#setSectors(endWhole * sectorsPerGroup, end, trimmed);
  }

  /** The groups that are listed, in no order. */
  groups(): IterableIterator<number> {
    return this.#groups.keys();
  }

  /** The long stretches of zeros, ascending, as ranges of groups; groups that are listed lie above them. */
  stretches(): Generator<[start: number, end: number]> {
    return this.#stretches.entries();
  }

  /** Within one group. */
  #setSectors(first: number, end: number, trimmed: boolean): void {
    if (first >= end) return;
    const group = Math.floor(first / sectorsPerGroup);
    const slot = this.#slotOf(group);
    const base = (slot % slotsPerSlab) * slotWords;
    const words = this.#slabs[Math.floor(slot / slotsPerSlab)]!;
    words.fill(
      trimmed ? sectorState.trimmed : sectorState.zeros,
      base + (first % sectorsPerGroup),
      base + (end - group * sectorsPerGroup),
    );
  }

  #setGroups(first: number, end: number, trimmed: boolean): void {
    const mark = trimmed ? wholeGroup.trimmed : wholeGroup.zeros;
    if (end - first < longStretchGroups) {
      for (let group = first; group < end; group += 1) {
        this.#forget(group);
        this.#groups.set(group, mark);
      }
      return;
    }
    if (end - first < this.#groups.size) for (let group = first; group < end; group += 1) this.#forget(group);
    else for (const group of this.#groups.keys()) if (group >= first && group < end) this.#forget(group);
    this.#stretches.set(first, end, trimmed);
  }

  #forget(group: number): void {
    const slot = this.#groups.get(group);
    if (slot === undefined) return;
    this.#groups.delete(group);
    if (slot >= 0) this.#free.push(slot);
  }

  /** The group's slot, made if there is none, with what was known of the whole group. */
  #slotOf(group: number): number {
    const known = this.find(group);
    if (known >= 0) return known;
    const slot = this.#free.pop() ?? this.#newSlot();
    const base = (slot % slotsPerSlab) * slotWords;
    const state =
      known === wholeGroup.absent ? sectorState.absent : known === wholeGroup.zeros ? sectorState.zeros : sectorState.trimmed;
    this.#slabs[Math.floor(slot / slotsPerSlab)]!.fill(state, base, base + sectorsPerGroup);
    this.#groups.set(group, slot);
    return slot;
  }

  #newSlot(): number {
    if (this.#slotsUsed === this.#slabs.length * slotsPerSlab) this.#slabs.push(new Uint32Array(slotsPerSlab * slotWords));
    return this.#slotsUsed++;
  }
}

const emptyWords = new Uint32Array(0);
