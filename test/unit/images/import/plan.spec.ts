import { expect } from 'chai';
import * as fc from 'fast-check';
import type { DiskImage, Extent } from '../../../../src/formats/disk-image.ts';
import { planChunks, type ChunkPlan } from '../../../../src/images/import/plan.ts';

const chunkBytes = 4096;

/** A disk image whose extents are the given ones, back to back. */
function imageOf(parts: { kind: Extent['kind']; length: number }[]): DiskImage {
  let offset = 0;
  const extents: Extent[] = parts.map(({ kind, length }) => {
    const start = offset;
    offset += length;
    if (kind === 'zero') return { kind, offset: start, length };
    if (kind === 'raw') return { kind, offset: start, length, at: 1_000_000 + start };
    return {
      kind,
      offset: start,
      length,
      at: 5_000_000 + start,
      packedLength: 10,
      codec: 'deflate-raw',
      skip: 7,
      unitLength: 7 + length,
    };
  });
  const sizeBytes = offset;
  return {
    format: 'raw',
    sizeBytes,
    async *extents(from, length) {
      for (const extent of extents) {
        const start = Math.max(extent.offset, from);
        const end = Math.min(extent.offset + extent.length, from + length);
        if (start >= end) continue;
        const skipped = start - extent.offset;
        if (extent.kind === 'zero') yield { kind: 'zero', offset: start, length: end - start };
        else if (extent.kind === 'raw') yield { kind: 'raw', offset: start, length: end - start, at: extent.at + skipped };
        else yield { ...extent, offset: start, length: end - start, skip: extent.skip + skipped };
      }
    },
  };
}

async function plansOf(image: DiskImage, fromIndex = 0): Promise<ChunkPlan[]> {
  const plans: ChunkPlan[] = [];
  for await (const plan of planChunks(image, chunkBytes, fromIndex, new AbortController().signal)) plans.push(plan);
  return plans;
}

const parts = fc.array(
  fc.record({
    kind: fc.constantFrom<Extent['kind']>('zero', 'raw', 'packed'),
    length: fc.integer({ min: 1, max: 40 }).map((sectors) => sectors * 512),
  }),
  { minLength: 1, maxLength: 30 },
);

describe('planChunks', () => {
  it('covers every chunk that holds data, once, in order, with extents that tile it', async () => {
    await fc.assert(
      fc.asyncProperty(parts, async (list) => {
        const image = imageOf(list);
        const plans = await plansOf(image);
        const planned = new Map(plans.map((plan) => [plan.index, plan]));
        expect(plans.map((plan) => plan.index)).to.deep.equal([...planned.keys()].sort((a, b) => a - b));
        for (let index = 0; index * chunkBytes < image.sizeBytes; index += 1) {
          const start = index * chunkBytes;
          const length = Math.min(chunkBytes, image.sizeBytes - start);
          const expected: Extent[] = [];
          for await (const extent of image.extents(start, length)) expected.push(extent);
          const plan = planned.get(index);
          if (expected.every((extent) => extent.kind === 'zero')) expect(plan).to.equal(undefined);
          else expect(plan).to.deep.equal({ index, lengthBytes: length, extents: expected });
        }
      }),
    );
  });

  it('goes on from a chunk as if it had come there', async () => {
    await fc.assert(
      fc.asyncProperty(parts, fc.nat(20), async (list, fromIndex) => {
        const image = imageOf(list);
        const all = await plansOf(image);
        expect(await plansOf(image, fromIndex)).to.deep.equal(all.filter((plan) => plan.index >= fromIndex));
      }),
    );
  });

  it('walks an empty terabyte without planning anything', async () => {
    expect(await plansOf(imageOf([{ kind: 'zero', length: 2 ** 40 }]))).to.deep.equal([]);
  });
});
