// Grain directory and grain tables. Source: VMware's "Virtual Disk Format 5.0", section "Hosted Sparse Extents", "Grain Directory"
// and "Grain Table"; grain markers: section "Stream-Optimized Compressed Sparse Extents".
import type { ExtentRun } from '../extent-run.ts';
import { entriesPerTable, noVmdk, type VmdkHeader } from './header.ts';

export const grainTableBytes = entriesPerTable * 4;
/** Sector (8 bytes) and length (4 bytes) of a compressed grain, right before its stream. */
const grainMarkerBytes = 12;
const zeroGrain = 1;

/**
 * The file offsets of the grain tables, 0 for those that are not there.
 * @throws DomainError INVALID_ARGUMENT when one lies outside of the file.
 */
export function parseDirectory(bytes: Uint8Array, fileBytes: number): Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const offsets = new Float64Array(bytes.length / 4);
  for (let index = 0; index < offsets.length; index += 1) {
    const offset = view.getUint32(index * 4, true) * 512;
    if (offset !== 0 && offset + grainTableBytes > fileBytes)
      throw noVmdk({
        field: `grain directory entry ${index}`,
        value: offset / 512,
        bound: `must leave room for a grain table before the end of the file at ${fileBytes}`,
      });
    offsets[index] = offset;
  }
  return offsets;
}

/** The file offsets of a table's grains: 0 where nothing is stored. The first `count` entries are in the disk. */
export function parseTable(
  bytes: Uint8Array,
  count: number,
  header: VmdkHeader,
  fileBytes: number,
  firstGrain: number,
): Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const offsets = new Float64Array(count);
  for (let index = 0; index < count; index += 1) {
    const entry = view.getUint32(index * 4, true);
    if (entry === 0 || (entry === zeroGrain && header.hasZeroGrains)) continue;
    const offset = entry * 512;
    const least = header.isCompressed && header.hasMarkers ? grainMarkerBytes : 0;
    if (offset + least >= fileBytes)
      throw noVmdk({
        field: `the grain table entry of grain ${firstGrain + index}`,
        value: entry,
        bound: `must be a sector of the file's ${fileBytes} bytes: the file was cut short`,
      });
    offsets[index] = offset;
  }
  return offsets;
}

/** What a table's grains take of the file, at least. */
export const storedBytes = (offsets: Float64Array, { isCompressed, grainBytes }: VmdkHeader, fileBytes: number): number =>
  offsets.reduce((sum, offset) => sum + (offset === 0 ? 0 : Math.min(isCompressed ? 512 : grainBytes, fileBytes - offset)), 0);

/** Adds grains [first, last) to `run`. `ends` answers where the stream of a compressed grain must have ended. */
export function addGrains(
  offsets: Float64Array,
  first: number,
  last: number,
  run: ExtentRun,
  header: VmdkHeader,
  disk: { fileBytes: number; sizeBytes: number; ends: (at: number) => number },
): void {
  const { grainBytes, isCompressed, hasMarkers } = header;
  for (let index = first; index < last; index += 1) {
    const offset = offsets[index]!;
    if (offset === 0) run.zero(grainBytes);
    else if (!isCompressed) run.rawClipped(grainBytes, offset, disk.fileBytes);
    else {
      // The marker's length is not looked at: it would cost a read for every grain, and the stream knows its own end.
      const at = offset + (hasMarkers ? grainMarkerBytes : 0);
      const packedLength = Math.min(disk.ends(offset), offset + 2 * grainBytes, disk.fileBytes) - at;
      // The last grain may hold no more than the disk (qemu-img writes it so).
      const minUnitLength = Math.min(grainBytes, disk.sizeBytes - run.position);
      run.packed({
        at,
        packedLength,
        codec: 'zlib',
        unitLength: grainBytes,
        ...(minUnitLength < grainBytes ? { minUnitLength } : {}),
      });
    }
  }
}
