// The block allocation table of a dynamic VHD. Source: "Virtual Hard Disk Image Format Specification" 1.0, section "Block Allocation
// Table and Data Blocks".
//
// Each block starts with a bitmap of its sectors: 1 for written, 0 for never written. A sector that was never written holds zeros
// anyway, because a block is made whole, so the bitmap says nothing that the data does not, and is not read (qemu does the same).
import type { ExtentRun } from '../extent-run.ts';
import { noVhd, type VhdDynamicHeader } from './header.ts';

const unused = 0xffff_ffff;

/**
 * Adds blocks [first, last) of a piece of the table to `run`; entry 0 of the piece is block `firstBlock`. Answers how many bytes of the
 * file they name. @throws DomainError INVALID_ARGUMENT when a block lies outside of the file.
 */
export function addBlocks(
  table: DataView,
  first: number,
  last: number,
  run: ExtentRun,
  { blockBytes, bitmapBytes }: VhdDynamicHeader,
  { fileBytes, sizeBytes, firstBlock }: { fileBytes: number; sizeBytes: number; firstBlock: number },
): number {
  let named = 0;
  for (let index = first; index < last; index += 1) {
    const entry = table.getUint32(index * 4);
    if (entry === unused) {
      run.zero(blockBytes);
      continue;
    }
    const at = entry * 512 + bitmapBytes;
    // Of the last block only what the disk has must be there.
    const needed = Math.min(blockBytes, sizeBytes - run.position);
    if (at + needed > fileBytes)
      throw noVhd({
        field: `the table entry of block ${firstBlock + index}`,
        value: entry,
        bound: `must leave room for ${bitmapBytes + needed} bytes before the end of the file at ${fileBytes}: the file was cut short`,
      });
    run.raw(blockBytes, at);
    named += bitmapBytes + needed;
  }
  return named;
}
