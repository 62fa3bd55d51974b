import { readdir } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import * as fc from 'fast-check';
import type { CorruptFinding } from '../../../src/storage/damage.ts';
import { memoryBlobStore } from '../../../src/storage/drivers/memory.ts';
import { openLayerView } from '../../../src/storage/layer-view.ts';
import { type Storage, openStorage, openStorageOn } from '../../../src/storage/open.ts';
import { blockBytes, chunkBytes } from '../../../src/storage/sizes.ts';
import { errorOf } from '../../contract/blob-store.contract.ts';
import { isLongRun, testSeed } from '../../support/sample.ts';
import { type BlockKind, chunk } from './support/guest-data.ts';
import { expectEqual, storeLayer } from './support/overlaid-disk.ts';
import { type Folder, counting, temporaryFolder } from './support/places.ts';

const MiB = 1024 * 1024;

const chunks = new Map<number, Uint8Array>([
  [0, chunk([1, 0, 2, 2, 1])],
  [1, chunk(Array<BlockKind>(64).fill(1), 1)],
  [3, chunk([0, 0, 0, 1], 3)],
  [1025, chunk([2], 4)],
]);
const sizeBytes = 1026 * chunkBytes - 3 * MiB - 5;

function expected(offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (const [index, data] of chunks) {
    const from = Math.max(offset, index * chunkBytes);
    const to = Math.min(offset + length, (index + 1) * chunkBytes);
    if (from < to) bytes.set(data.subarray(from - index * chunkBytes, to - index * chunkBytes), from - offset);
  }
  return bytes;
}

describe('a view of a layer', () => {
  let folder: Folder;
  let found: CorruptFinding[];

  beforeEach(async () => {
    folder = await temporaryFolder();
    found = [];
  });
  afterEach(() => folder[Symbol.asyncDispose]());

  const openStore = (options: { threads?: number; cachedBlockBytes?: number; packing?: 'none' | 'zstd' } = {}) =>
    openStorage({ directory: `${folder.path}/store`, onCorrupt: (finding) => found.push(finding), ...options });

  const viewOf = async (storage: Storage) => openLayerView(storage, await storeLayer(storage, chunks), sizeBytes);

  const offsets = fc.oneof(fc.nat(5 * chunkBytes), fc.integer({ min: 1024 * chunkBytes, max: sizeBytes }), fc.nat(sizeBytes));
  const lengths = fc.oneof(fc.nat(70_000), fc.nat(3 * chunkBytes));

  for (const [title, options] of [
    ['', {}],
    ['packed', { packing: 'zstd' }],
    ['with a cache of five blocks', { cachedBlockBytes: 5 * blockBytes }],
    ['without a cache', { cachedBlockBytes: 0 }],
    ['with threads', { threads: 2, cachedBlockBytes: 8 * MiB }],
  ] as const)
    it(`answers any bytes of the disk, zeros in its holes, many reads at once ${title}`.trim(), async () => {
      await using storage = await openStore(options);
      const view = await viewOf(storage);
      const read = fc.record({ start: offsets, wanted: lengths });
      const property = fc.asyncProperty(fc.array(read, { minLength: 1, maxLength: 6 }), async (reads) => {
        const readOne = async ({ start, wanted }: { start: number; wanted: number }): Promise<void> => {
          const target = Buffer.alloc(Math.min(wanted, sizeBytes - start), 0xee);
          await view.read(target, start);
          const wants = expected(start, target.length);
          expectEqual(target, wants, start);
          target.fill(0xdd);
          if (view.readNow(target, start)) expectEqual(target, wants, start);
        };
        await Promise.all(reads.map(readOne));
        expect(storage.cache.blocks.heldBytes).to.be.at.most(storage.cache.blocks.maxBytes);
      });
      await fc.assert(property, { numRuns: isLongRun ? 300 : 15, seed: testSeed });
      expect(found).to.deep.equal([]);
    }).timeout(300_000);

  it('answers at once what it read before, and fetches it once however many ask', async () => {
    const counted = counting(memoryBlobStore());
    await using storage = await openStorageOn(counted.store);
    const view = await viewOf(storage);
    const target = Buffer.alloc(4096);
    expect(view.readNow(target, chunkBytes + 100)).to.equal(false);
    counted.counts.get = 0;
    await Promise.all(Array.from({ length: 20 }, () => view.read(Buffer.alloc(4096), chunkBytes + 100)));
    // A leaf page, a header, a block.
    expect(counted.counts.get).to.be.at.most(3);
    expect(view.readNow(target, chunkBytes + 100)).to.equal(true);
    expectEqual(target, expected(chunkBytes + 100, 4096), 0);
    expect(view.readNow(target, chunkBytes + blockBytes - 10)).to.equal(false);
  });

  it('fetches ahead of a sequential reader, and not of a random one', async () => {
    const counted = counting(memoryBlobStore());
    await using storage = await openStorageOn(counted.store);
    const all = new Map(Array.from({ length: 16 }, (_, index) => [index, chunk(Array<BlockKind>(64).fill(2), index)]));
    const root = await storeLayer(storage, all);
    const random = await openLayerView(storage, root, 16 * chunkBytes);
    for (const index of [9, 2, 13, 5, 11]) await random.read(Buffer.alloc(4096), index * chunkBytes + 5 * blockBytes);
    await sleep(20);
    expect(storage.cache.blocks.heldBytes).to.equal(5 * blockBytes);
    const view = await openLayerView(storage, root, 16 * chunkBytes);
    let waited = 0;
    const target = Buffer.alloc(128 * 1024);
    for (let offset = 0; offset < 16 * chunkBytes; offset += target.length) {
      if (!view.readNow(target, offset)) {
        waited += 1;
        await view.read(target, offset);
      }
      expectEqual(
        target,
        all.get(Math.floor(offset / chunkBytes))!.subarray(offset % chunkBytes, (offset % chunkBytes) + target.length),
        0,
      );
      await sleep(1);
    }
    expect(waited).to.be.lessThan((16 * chunkBytes) / target.length / 2);
  });

  it('keeps what is used again when somebody reads a whole disk', async () => {
    await using storage = await openStorageOn(memoryBlobStore(), { cachedBlockBytes: 2 * chunkBytes });
    const all = new Map(Array.from({ length: 12 }, (_, index) => [index, chunk(Array<BlockKind>(64).fill(2), index)]));
    const root = await storeLayer(storage, all);
    const view = await openLayerView(storage, root, 12 * chunkBytes);
    const scanner = await openLayerView(storage, root, 12 * chunkBytes);
    const hot = Buffer.alloc(4096);
    const isHot = (): boolean => view.readNow(hot, 100) && view.readNow(hot, 9000) && view.readNow(hot, 5);
    await view.read(hot, 100);
    expect(isHot()).to.equal(true);
    let stays = 0;
    for (let offset = 0; offset < 12 * chunkBytes; offset += MiB) {
      await scanner.read(Buffer.alloc(MiB), offset);
      if (isHot()) stays += 1;
    }
    expect(stays).to.equal(48);
  });

  async function damage(address: string, at: number): Promise<void> {
    const file = await open(path.join(folder.path, 'store', 'chunks', address.slice(0, 2), address), 'r+');
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, at);
    byte[0]! ^= 0x10;
    await file.write(byte, 0, 1, at);
    await file.close();
  }

  for (const threads of [0, 1])
    it(`answers an error where stored data is damaged, counts it, and answers the rest; ${threads} threads`, async () => {
      await using storage = await openStore({ threads, cachedBlockBytes: 4 * blockBytes });
      const root = await storeLayer(storage, chunks);
      const view = await openLayerView(storage, root, sizeBytes);
      const address = (await (await storage.layers.open(root)).lookup(1))!;
      const target = Buffer.alloc(4096);
      // Verified once, driven out of memory, then damaged: the second reading must notice too.
      await view.read(target, chunkBytes + 20 * blockBytes);
      for (let block = 40; block < 50; block += 1) await view.read(target, chunkBytes + block * blockBytes);
      await damage(address, 4096 + 20 * blockBytes + 777);
      await damage(address, 4096 + 21 * blockBytes + 777);
      for (const block of [20, 21]) {
        const error = await errorOf(view.read(target, chunkBytes + block * blockBytes));
        expect(error).to.have.property('code', 'DATA_LOSS');
        expect(view.readNow(target, chunkBytes + block * blockBytes)).to.equal(false);
      }
      expect(await errorOf(view.read(Buffer.alloc(7 * MiB), 0))).to.have.property('code', 'DATA_LOSS');
      expect(found.length).to.be.at.least(2);
      expect(found[0]).to.include({ kind: 'chunks', address });
      await view.read(target, chunkBytes + 22 * blockBytes);
      expectEqual(target, expected(chunkBytes + 22 * blockBytes, 4096), 0);
      expect((await readdir(path.join(folder.path, 'store', 'corrupt', 'chunks'))).length).to.equal(1);
    });

  it('stops when it is told to, and leaves the target alone then', async () => {
    await using storage = await openStorageOn(memoryBlobStore());
    const view = await viewOf(storage);
    const reason = new Error('enough');
    expect(await errorOf(view.read(Buffer.alloc(10), 0, AbortSignal.abort(reason)))).to.equal(reason);
    const controller = new AbortController();
    const target = Buffer.alloc(9 * MiB);
    const read = errorOf(view.read(target, 0, controller.signal));
    controller.abort(reason);
    expect(await read).to.equal(reason);
    target.fill(0xaa);
    await sleep(30);
    expect(target.every((byte) => byte === 0xaa)).to.equal(true);
  });

  it('ends where the disk ends, and is zeros without a layer', async () => {
    await using storage = await openStorageOn(memoryBlobStore());
    const view = await viewOf(storage);
    await view.read(Buffer.alloc(10), sizeBytes - 10);
    for (const [offset, length] of [
      [sizeBytes - 9, 10],
      [sizeBytes, 1],
      [-1, 1],
      [0.5, 1],
    ] as const) {
      expect(await errorOf(view.read(Buffer.alloc(length), offset))).to.be.instanceOf(RangeError);
      expect(() => view.readNow(Buffer.alloc(length), offset)).to.throw(RangeError);
    }
    const empty = await openLayerView(storage, undefined, 100);
    const target = Buffer.alloc(100, 1);
    expect(empty.readNow(target, 0)).to.equal(true);
    expect(target.equals(Buffer.alloc(100))).to.equal(true);
    expect(await empty.extents(10, 90, 1)).to.deep.equal([{ length: 90, hole: true, zero: true }]);
  });

  it('knows its holes: chunks and blocks that are not stored', async () => {
    await using storage = await openStorageOn(memoryBlobStore());
    const view = await viewOf(storage);
    const data = (length: number) => ({ length, hole: false, zero: false });
    const hole = (length: number) => ({ length, hole: true, zero: true });
    expect(await view.extents(0, chunkBytes, 10)).to.deep.equal([
      data(blockBytes),
      hole(blockBytes),
      data(3 * blockBytes),
      hole(chunkBytes - 5 * blockBytes),
    ]);
    expect(await view.extents(blockBytes - 5, 20, 10)).to.deep.equal([data(5), hole(15)]);
    expect(await view.extents(0, sizeBytes, 1)).to.deep.equal([data(blockBytes)]);
    expect(await view.extents(4 * chunkBytes, sizeBytes - 4 * chunkBytes, 3)).to.deep.equal([
      hole(1021 * chunkBytes),
      data(blockBytes),
      hole(MiB - 5 - blockBytes),
    ]);
  });
});
