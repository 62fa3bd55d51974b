import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import * as fc from 'fast-check';
import { DomainError } from '../../../src/platform/errors.ts';
import { memoryBlobStore } from '../../../src/storage/drivers/memory.ts';
import { layerSource } from '../../../src/storage/layer-source.ts';
import { openStorageOn } from '../../../src/storage/open.ts';
import { chunkBytes } from '../../../src/storage/sizes.ts';
import { errorOf } from '../../contract/blob-store.contract.ts';
import { type BlockKind, chunk } from './support/guest-data.ts';

const MiB = 1024 * 1024;

describe('layer source', () => {
  const chunks = new Map<number, Uint8Array>([
    [0, chunk([1, 0, 2])],
    [1, chunk(Array<BlockKind>(64).fill(1), 1)],
    [3, chunk([0, 0, 0, 1], 3)],
    [1025, chunk([2], 4)],
  ]);
  const sizeBytes = 1026 * chunkBytes - 3 * MiB - 5;

  async function stored(objects = new Map<string, Uint8Array>()) {
    const storage = await openStorageOn(memoryBlobStore(objects));
    const builder = await storage.layers.build();
    for (const [index, data] of chunks) builder.set(index, await storage.chunks.store(data));
    const layer = await storage.layers.open(await builder.flush());
    return { storage, layer, source: layerSource(layer, storage.chunks, sizeBytes) };
  }

  const expected = (offset: number, length: number): Buffer => {
    const bytes = Buffer.alloc(length);
    for (const [index, data] of chunks) {
      const from = Math.max(offset, index * chunkBytes);
      const to = Math.min(offset + length, (index + 1) * chunkBytes);
      if (from < to) bytes.set(data.subarray(from - index * chunkBytes, to - index * chunkBytes), from - offset);
    }
    return bytes;
  };

  it('answers any bytes of the disk, zeros in its holes', async () => {
    const { source } = await stored();
    const offset = fc.oneof(fc.nat(5 * chunkBytes), fc.integer({ min: 1024 * chunkBytes, max: sizeBytes }), fc.nat(sizeBytes));
    const length = fc.oneof(fc.nat(70_000), fc.nat(3 * chunkBytes));
    await fc.assert(
      fc.asyncProperty(offset, length, async (start, wanted) => {
        const target = Buffer.alloc(Math.min(wanted, sizeBytes - start), 0xee);
        await source.read(target, start);
        expect(target.equals(expected(start, target.length))).to.equal(true);
      }),
      { numRuns: 80 },
    );
  });

  it('ends where the disk ends', async () => {
    const { source } = await stored();
    expect(source.sizeBytes).to.equal(sizeBytes);
    await source.read(new Uint8Array(10), sizeBytes - 10);
    for (const [offset, length] of [
      [sizeBytes - 9, 10],
      [sizeBytes, 1],
      [-1, 1],
      [0.5, 1],
    ] as const)
      expect(await errorOf(source.read(new Uint8Array(length), offset))).to.be.instanceOf(RangeError);
  });

  it('answers an error where stored data is damaged, and the rest', async () => {
    const objects = new Map<string, Uint8Array>();
    const { layer, storage } = await stored(objects);
    const address = (await layer.lookup(3))!;
    objects.delete(`chunks/${address.slice(0, 2)}/${address}`);
    const source = layerSource(layer, storage.chunks, sizeBytes);
    const error = await errorOf(source.read(new Uint8Array(3 * chunkBytes), 2 * chunkBytes));
    expect(error).to.be.instanceOf(DomainError).with.property('code', 'DATA_LOSS');
    const target = new Uint8Array(2 * chunkBytes);
    await source.read(target, 0);
    expect(expected(0, target.length).equals(target)).to.equal(true);
  });

  it('stops when it is told to', async () => {
    const { source } = await stored();
    const reason = new Error('enough');
    expect(await errorOf(source.read(new Uint8Array(10), 0, AbortSignal.abort(reason)))).to.equal(reason);
    const controller = new AbortController();
    const target = new Uint8Array(40 * MiB);
    const read = errorOf(source.read(target, 0, controller.signal));
    controller.abort(reason);
    expect(await read).to.equal(reason);
    target.fill(0xaa);
    await sleep(30);
    expect(target.every((byte) => byte === 0xaa)).to.equal(true);
  });
});
