// A disk image as the guest's bytes, at any offset: for tests, checks and small reads. The import does not use it: it reads in
// threads, chunk by chunk.
import { assertRange, type ByteSource } from '../platform/byte-source.ts';
import type { DiskImage, Extent } from './disk-image.ts';
import { assemble, mergeRanges } from './file-ranges.ts';

const mergeLimits = { maxGapBytes: 16 * 1024, maxRangeBytes: 1024 * 1024 };
const concurrency = 4;
/** Extents that are collected before they are read. */
const maxBatch = 1024;

/** `source` is the file that `image` was opened on; neither is owned. */
export function diskImageReader(image: DiskImage, source: ByteSource): ByteSource {
  return {
    sizeBytes: image.sizeBytes,
    async read(target, offset, signal) {
      assertRange(image.sizeBytes, offset, target.length);
      let batch: Extent[] = [];
      for await (const extent of image.extents(offset, target.length, signal)) {
        batch.push(extent);
        if (batch.length < maxBatch) continue;
        await readExtents(source, target, offset, batch, signal);
        batch = [];
      }
      await readExtents(source, target, offset, batch, signal);
    },
    async [Symbol.asyncDispose]() {},
  };
}

async function readExtents(
  source: ByteSource,
  target: Uint8Array,
  base: number,
  extents: Extent[],
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const extent of extents)
    if (extent.kind === 'zero') target.fill(0, extent.offset - base, extent.offset - base + extent.length);
  const ranges = mergeRanges(extents, mergeLimits).values();
  const reader = async (): Promise<void> => {
    for (const range of ranges) {
      const bytes = new Uint8Array(range.length);
      await source.read(bytes, range.at, signal);
      assemble(target, base, range.extents, bytes, range.at);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, reader));
}
