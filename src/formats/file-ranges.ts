// From extents to bytes: which ranges of the file to fetch, and how guest bytes are put together from what came. Pure and synchronous;
// the import's threads use it for each chunk, diskImageReader for small reads.
import type { Extent, StoredExtent } from './disk-image.ts';
import { unpack } from './unpack.ts';

/** Bytes [at, at + length) of the file, and the extents that lie wholly inside, by file offset. Plain data. */
export interface FileRange {
  at: number;
  length: number;
  extents: StoredExtent[];
}

export interface MergeLimits {
  /** Extents that lie at most this far apart in the file are fetched together; what is between them is thrown away. */
  maxGapBytes: number;
  /** No range is longer, except for a single packed unit. Raw extents are cut to fit. */
  maxRangeBytes: number;
}

const storedLength = (extent: StoredExtent): number => (extent.kind === 'raw' ? extent.length : extent.packedLength);

/** Few large reads instead of many small ones. Zero extents need none; ranges ascend and overlap only where packed units do. */
export function mergeRanges(extents: Iterable<Extent>, { maxGapBytes, maxRangeBytes }: MergeLimits): FileRange[] {
  const stored: StoredExtent[] = [];
  for (const extent of extents) {
    if (extent.kind === 'packed') stored.push(extent);
    if (extent.kind !== 'raw') continue;
    for (let done = 0; done < extent.length; done += maxRangeBytes) {
      const length = Math.min(maxRangeBytes, extent.length - done);
      stored.push({ kind: 'raw', offset: extent.offset + done, length, at: extent.at + done });
    }
  }
  stored.sort((a, b) => a.at - b.at || a.offset - b.offset);

  const ranges: FileRange[] = [];
  let range: FileRange | undefined;
  for (const extent of stored) {
    const end = extent.at + storedLength(extent);
    const isNear = range !== undefined && extent.at - (range.at + range.length) <= maxGapBytes;
    if (range !== undefined && isNear && end - range.at <= maxRangeBytes) {
      range.length = Math.max(range.length, end - range.at);
      range.extents.push(extent);
    } else {
      range = { at: extent.at, length: end - extent.at, extents: [extent] };
      ranges.push(range);
    }
  }
  return ranges;
}

/**
 * Puts guest bytes where they belong: `target` holds the guest's bytes from `base` on, `bytes` the file's from `at` on. Every stored
 * extent must lie inside both. Zero extents are written as zeros, so a buffer can be used again.
 * @throws DomainError INVALID_ARGUMENT when a packed unit is corrupt; RangeError when an extent lies outside (the caller's mistake).
 */
export function assemble(target: Uint8Array, base: number, extents: Iterable<Extent>, bytes: Uint8Array, at: number): void {
  // Slices of one unit come one after the other: it is unpacked once.
  let unit: { at: number; bytes: Uint8Array } | undefined;
  for (const extent of extents) {
    const start = extent.offset - base;
    const end = start + extent.length;
    if (start < 0 || end > target.length) throw new RangeError(`extent at ${extent.offset} is outside of the target`);
    if (extent.kind === 'zero') {
      target.fill(0, start, end);
      continue;
    }
    const from = extent.at - at;
    const length = storedLength(extent);
    if (from < 0 || from + length > bytes.length) throw new RangeError(`file bytes at ${extent.at} were not fetched`);
    const stored = bytes.subarray(from, from + length);
    if (extent.kind === 'raw') {
      target.set(stored, start);
      continue;
    }
    const options = { at: extent.at, minLength: extent.minUnitLength ?? extent.unitLength };
    if (extent.skip === 0 && extent.length === extent.unitLength) {
      unpack(extent.codec, stored, target.subarray(start, end), options);
      continue;
    }
    if (unit?.at !== extent.at) {
      unit = { at: extent.at, bytes: new Uint8Array(extent.unitLength) };
      unpack(extent.codec, stored, unit.bytes, options);
    }
    target.set(unit.bytes.subarray(extent.skip, extent.skip + extent.length), start);
  }
}
