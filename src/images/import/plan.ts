// Cuts a disk image into the 4 MiB chunks of a layer. Chunks that hold only zeros are not planned: nothing is read for them.
import type { DiskImage, Extent } from '../../formats/disk-image.ts';

/** One chunk to fetch and store; extents are in guest order and cover it without gaps. Plain data, posted to a worker thread. */
export interface ChunkPlan {
  /** The chunk covers guest bytes [index × chunkBytes, … + lengthBytes). */
  index: number;
  /** chunkBytes, or less in the last chunk of a disk. */
  lengthBytes: number;
  extents: Extent[];
}

/** The part of `extent` in [start, end); both lie inside it. */
function slice(extent: Extent, start: number, end: number): Extent {
  const skipped = start - extent.offset;
  const length = end - start;
  switch (extent.kind) {
    case 'zero':
      return { kind: 'zero', offset: start, length };
    case 'raw':
      return { kind: 'raw', offset: start, length, at: extent.at + skipped };
    case 'packed':
      return { ...extent, offset: start, length, skip: extent.skip + skipped };
  }
}

/** Plans the chunks from index `fromIndex` on, ascending; lazily, so that a consumer that waits holds it back. */
export async function* planChunks(
  image: DiskImage,
  chunkBytes: number,
  fromIndex: number,
  signal: AbortSignal,
): AsyncGenerator<ChunkPlan> {
  const start = fromIndex * chunkBytes;
  if (start >= image.sizeBytes) return;
  let plan: ChunkPlan | undefined;
  for await (const extent of image.extents(start, image.sizeBytes - start, signal)) {
    const extentEnd = extent.offset + extent.length;
    let position = extent.offset;
    while (position < extentEnd) {
      const index = Math.floor(position / chunkBytes);
      const chunkEnd = Math.min((index + 1) * chunkBytes, image.sizeBytes);
      if (extent.kind === 'zero' && position === index * chunkBytes && extentEnd >= chunkEnd) {
        // Whole chunks of zeros, however many, cost nothing.
        position = extentEnd === image.sizeBytes ? extentEnd : Math.floor(extentEnd / chunkBytes) * chunkBytes;
        continue;
      }
      const end = Math.min(extentEnd, chunkEnd);
      plan ??= { index, lengthBytes: chunkEnd - index * chunkBytes, extents: [] };
      plan.extents.push(slice(extent, position, end));
      position = end;
      if (end === chunkEnd) {
        if (plan.extents.some((part) => part.kind !== 'zero')) yield plan;
        plan = undefined;
      }
    }
  }
}
