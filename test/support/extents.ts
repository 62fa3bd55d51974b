// What is true of the extents of every decoder, checked wherever a test walks them.
import { expect } from 'chai';
import type { DiskImage, Extent } from '../../src/formats/disk-image.ts';

/** Whether two neighbours could have been one extent. */
function canBeOne(before: Extent, after: Extent): boolean {
  if (before.kind === 'zero') return after.kind === 'zero';
  return before.kind === 'raw' && after.kind === 'raw' && before.at + before.length === after.at;
}

/** The extents of a range, after checking that they tile it, are merged, and stay inside the file. */
export async function extentsOf(
  image: DiskImage,
  fileBytes: number,
  offset = 0,
  length = image.sizeBytes - offset,
): Promise<Extent[]> {
  const extents: Extent[] = [];
  let position = offset;
  for await (const extent of image.extents(offset, length)) {
    const before = extents.at(-1);
    // Plain comparisons: chai's are too slow for a hundred thousand extents.
    if (extent.offset !== position || extent.length <= 0)
      expect.fail(`a gap, an overlap or nothing at ${position}: ${JSON.stringify(extent)}`);
    if (before !== undefined && canBeOne(before, extent)) expect.fail(`not merged: ${JSON.stringify([before, extent])}`);
    if (extent.kind === 'raw' && (extent.at < 0 || extent.at + extent.length > fileBytes))
      expect.fail(`outside of the file: ${JSON.stringify(extent)}`);
    if (extent.kind === 'packed') {
      const isInside = extent.at >= 0 && extent.packedLength > 0 && extent.at + extent.packedLength <= fileBytes;
      const isInUnit =
        extent.skip >= 0 && extent.skip + extent.length <= extent.unitLength && extent.unitLength <= 4 * 1024 * 1024;
      if (!isInside || !isInUnit) expect.fail(`outside of the file or of its unit: ${JSON.stringify(extent)}`);
    }
    extents.push(extent);
    position += extent.length;
  }
  expect(position, 'where the extents end').to.equal(offset + length);
  return extents;
}
