import { expect } from 'chai';
import * as fc from 'fast-check';
import { openLayerView } from '../../../../src/storage/layer-view.ts';
import { openStorage, type Storage } from '../../../../src/storage/open.ts';
import { OverlayFailedError } from '../../../../src/storage/overlay/errors.ts';
import { logHeaderBytes } from '../../../../src/storage/overlay/log-format.ts';
import { chunkBytes } from '../../../../src/storage/sizes.ts';
import { errorOf } from '../../../contract/blob-store.contract.ts';
import { FailingSyncs } from '../../../support/failing-syncs.ts';
import { isLongRun, testSeed } from '../../../support/sample.ts';
import { type BlockKind, chunk } from '../support/guest-data.ts';
import { OverlaidDisk, bytesOf, expectEqual, storeLayer } from '../support/overlaid-disk.ts';
import { type Folder, temporaryFolder } from '../support/places.ts';

const MiB = 1024 * 1024;
const sizeBytes = 5 * chunkBytes;
/** Shorter than the disk, and no whole number of sectors. */
const baseBytes = 2 * chunkBytes + 3 * MiB + 513;

const baseChunks = new Map<number, Uint8Array>([
  [0, chunk([1, 0, 2])],
  [1, chunk(Array<BlockKind>(64).fill(1), 1)],
  [2, chunk([0, 0, 1], 3)],
]);

type Step =
  | { kind: 'write' | 'trim' | 'zero' | 'punch'; offset: number; length: number; seed: number }
  | { kind: 'several'; changes: { sector: number; from: number; length: number; seed: number }[] }
  | { kind: 'read'; offset: number; length: number }
  | { kind: 'flush' | 'rotate' | 'reopen' | 'crash' | 'fold' | 'extents' };

const sectorly = (bytes: number): number => Math.round(bytes / 4096) * 4096;

const range = fc
  .record({
    offset: fc.oneof(fc.nat(sizeBytes - 1), fc.nat(sizeBytes - 1).map(sectorly), fc.nat(200_000)),
    length: fc.oneof(
      { weight: 4, arbitrary: fc.integer({ min: 1, max: 9000 }) },
      { weight: 3, arbitrary: fc.constantFrom(4096, 8192, 65536, 512) },
      { weight: 2, arbitrary: fc.integer({ min: 1, max: 3 * MiB }) },
      { weight: 1, arbitrary: fc.integer({ min: chunkBytes, max: 2 * chunkBytes }) },
    ),
  })
  .map(({ offset, length }) => ({ offset: Math.min(offset, sizeBytes - 1), length: Math.min(length, sizeBytes - offset) }))
  .filter(({ length }) => length > 0);

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc
      .tuple(fc.constantFrom(...(['write', 'write', 'write', 'trim', 'zero', 'punch'] as const)), range, fc.nat(1000))
      .map(([kind, { offset, length }, seed]): Step => ({ kind, seed, offset, length })),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('several' as const),
      changes: fc.array(
        fc.record({
          sector: fc.nat(3),
          from: fc.nat(15).map((part) => part * 256),
          length: fc.constantFrom(1, 100, 256),
          seed: fc.nat(1000),
        }),
        { maxLength: 8 },
      ),
    }),
  },
  { weight: 4, arbitrary: range.map(({ offset, length }): Step => ({ kind: 'read', offset, length })) },
  {
    weight: 4,
    arbitrary: fc.constantFrom(...(['flush', 'rotate', 'reopen', 'crash', 'fold', 'extents'] as const).map((kind) => ({ kind }))),
  },
);

async function take(disk: OverlaidDisk, does: Step): Promise<void> {
  switch (does.kind) {
    case 'write':
      return disk.write(does.offset, bytesOf(does.seed, does.length), does.seed % 7 === 0);
    case 'trim':
      return disk.trim(does.offset, does.length);
    case 'zero':
      return disk.zero(does.offset, does.length, false);
    case 'punch':
      return disk.zero(does.offset, does.length, true);
    case 'several': {
      // Different bytes of the same few sectors, at once: none may undo another.
      const taken = new Set<number>();
      const writes = does.changes
        .filter(({ sector, from }) => !taken.has(sector * 4096 + from) && taken.add(sector * 4096 + from))
        .map(({ sector, from, length, seed }) => disk.write(sector * 4096 + from, bytesOf(seed, length)));
      await Promise.all([...writes, disk.trim(16384, 4096), disk.overlay.flush()]);
      return;
    }
    case 'read':
      return disk.expectRange(does.offset, does.length);
    case 'flush':
      return disk.overlay.flush();
    case 'rotate':
      return disk.rotate();
    case 'reopen':
      return disk.reopen();
    case 'crash':
      return disk.crash();
    case 'fold':
      return disk.foldAll();
    case 'extents':
      return disk.expectExtents();
  }
}

describe('a writable overlay', () => {
  let folder: Folder;
  let storage: Storage;

  before(async () => {
    folder = await temporaryFolder();
  });
  after(() => folder[Symbol.asyncDispose]());

  afterEach(() => storage[Symbol.asyncDispose]());

  let disks = 0;

  async function makeDisk(options: { cachedBlockBytes?: number; threads?: number } = {}): Promise<OverlaidDisk> {
    disks += 1;
    storage = await openStorage({ directory: `${folder.path}/store`, ...options });
    const logs = await temporaryFolder();
    const root = await storeLayer(storage, baseChunks);
    const model = Buffer.alloc(sizeBytes);
    for (const [index, data] of baseChunks) model.set(data, index * chunkBytes);
    model.fill(0, baseBytes);
    return new OverlaidDisk(storage, logs.path, sizeBytes, { root, sizeBytes: baseBytes }, model).open();
  }

  for (const [title, options] of [
    ['with a large cache', {}],
    ['with a tiny cache', { cachedBlockBytes: 5 * 65536 }],
    ['without a cache', { cachedBlockBytes: 0 }],
    ['with threads', { threads: 2, cachedBlockBytes: 8 * MiB }],
  ] as const)
    it(`answers what was written, whatever is done to it, ${title}`, async () => {
      const numRuns = isLongRun ? 200 : 3;
      const property = fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
        await using disk = await makeDisk(options);
        for (const does of steps) await take(disk, does);
        await disk.expectAll();
        await disk.crash();
        await disk.expectExtents(3);
        await disk.expectAll();
        await disk.foldAll();
        await disk.expectAll();
        await storage[Symbol.asyncDispose]();
      });
      await fc.assert(property, { numRuns, seed: testSeed, endOnFailure: !isLongRun });
    }).timeout(600_000);

  it('takes changes of a few bytes at once without losing any', async () => {
    await using disk = await makeDisk();
    const writes = Array.from({ length: 600 }, (_, index) => disk.write(chunkBytes - 3000 + index * 11, bytesOf(index, 11)));
    await Promise.all(writes);
    await disk.expectRange(chunkBytes - 20_000, 40_000);
  });

  it('answers a flush that begins after a write only when the write is durable', async () => {
    await using disk = await makeDisk();
    await disk.write(5, bytesOf(1, 100_000));
    const { lengthBytes } = disk.overlay.open;
    expect(disk.overlay.open.durableBytes).to.be.lessThan(lengthBytes);
    await Promise.all([disk.overlay.flush(), disk.overlay.flush(), disk.write(9_000_000, bytesOf(2, 5000))]);
    expect(disk.overlay.open.durableBytes).to.be.at.least(lengthBytes);
    await disk.write(MiB, bytesOf(3, 4096), true);
    expect(disk.overlay.open.durableBytes).to.equal(disk.overlay.open.lengthBytes);
  });

  it('puts all that was answered before a rotation into the sealed generation, and nothing that came after it', async () => {
    await using disk = await makeDisk();
    await disk.write(0, bytesOf(1, 4096));
    const atSeal = Buffer.from(disk.model);
    const next = await disk.create();
    let late: Promise<void> | undefined;
    const sealed = await disk.overlay.rotate(next, async (lengthBytes) => {
      expect(disk.overlay.open.durableBytes).to.equal(lengthBytes);
      late = disk.write(4096, bytesOf(2, 4096));
      await disk.expectRange(0, 4096);
      disk.sealed.push({ generation: 1, lengthBytes });
    });
    await late;
    expect(sealed.lengthBytes).to.equal(disk.sealed[0]!.lengthBytes);
    expect(disk.overlay.open).to.equal(next);
    await disk.expectRange(0, 8192);
    const { root } = await disk.foldSealed(disk.overlay.sealed);
    const view = await openLayerView(storage, root, sizeBytes);
    const target = Buffer.alloc(8192);
    await view.read(target, 0);
    expectEqual(target, atSeal.subarray(0, 8192), 0);
  });

  it('goes on with the open generation when a rotation is not committed', async () => {
    await using disk = await makeDisk();
    await disk.write(0, bytesOf(1, 4096));
    const before = disk.overlay.open;
    await using next = await disk.create();
    const refused = new Error('refused');
    expect(await errorOf(disk.overlay.rotate(next, () => Promise.reject(refused)))).to.equal(refused);
    expect(disk.overlay.open).to.equal(before);
    await disk.write(4096, bytesOf(2, 4096));
    await disk.expectRange(0, 8192);
  });

  it('keeps what it drops until the reads that began before have ended', async () => {
    await using disk = await makeDisk({ cachedBlockBytes: 0 });
    for (let index = 0; index < 40; index += 1) await disk.write(index * 70_000, bytesOf(index, 4096));
    await disk.rotate();
    const target = Buffer.alloc(40 * 70_000);
    const reads = Array.from({ length: 8 }, () => disk.overlay.read(target, 0));
    await Promise.all([...reads, disk.foldAll()]);
    expectEqual(target, disk.model.subarray(0, target.length), 0);
    expect(disk.overlay.sealed).to.deep.equal([]);
    await disk.expectAll();
  });

  it('takes no writes once it was finished, and can be read until it is disposed', async () => {
    const disk = await makeDisk();
    const under = disk.write(0, bytesOf(1, 3 * MiB));
    const { lengthBytes } = await disk.overlay.finish();
    await under;
    expect(disk.overlay.open.durableBytes).to.equal(lengthBytes);
    expect(await errorOf(disk.overlay.write(bytesOf(1, 10), 0, false))).to.be.instanceOf(OverlayFailedError);
    expect(await errorOf(disk.overlay.trim(0, 10, false))).to.be.instanceOf(OverlayFailedError);
    await disk.expectRange(0, 4 * MiB);
    await disk.overlay[Symbol.asyncDispose]();
    expect(disk.overlay.readNow(Buffer.alloc(1), 0)).to.equal(false);
    expect(await errorOf(disk.overlay.read(Buffer.alloc(1), 0))).to.be.instanceOf(OverlayFailedError);
  });

  it('is to be sealed at what was known to be durable when a sync fails', async () => {
    using syncs = new FailingSyncs();
    const disk = await makeDisk();
    await disk.write(0, bytesOf(1, 100_000));
    await disk.overlay.flush();
    const { durableBytes } = disk.overlay.open;
    await disk.write(200_000, bytesOf(2, 100_000));
    syncs.fails = true;
    expect(await errorOf(disk.overlay.flush())).to.be.instanceOf(OverlayFailedError);
    syncs.fails = false;
    expect(await errorOf(disk.overlay.write(bytesOf(3, 4096), 0, false))).to.be.instanceOf(OverlayFailedError);
    expect(await errorOf(disk.overlay.flush())).to.be.instanceOf(OverlayFailedError);
    const { lengthBytes, failure } = await disk.overlay.finish();
    expect(lengthBytes).to.equal(durableBytes);
    expect(failure).to.be.instanceOf(OverlayFailedError);
    expect(disk.overlay.open.lengthBytes).to.be.greaterThan(lengthBytes);
    await disk.overlay[Symbol.asyncDispose]();
  });

  it('is to be sealed at what was known to be durable when the last sync of all fails', async () => {
    using syncs = new FailingSyncs();
    const disk = await makeDisk();
    await disk.write(0, bytesOf(1, 4096));
    syncs.fails = true;
    const { lengthBytes, failure } = await disk.overlay.finish();
    expect(lengthBytes).to.equal(logHeaderBytes);
    expect(failure).to.be.instanceOf(OverlayFailedError);
    await disk.overlay[Symbol.asyncDispose]();
  });

  it('looks at a bounded number of sectors for one question of what there is, and far where nothing was written', async () => {
    storage = await openStorage({ directory: `${folder.path}/store` });
    const logs = await temporaryFolder();
    await using disk = await new OverlaidDisk(storage, logs.path, 2048 * MiB, undefined, Buffer.alloc(0)).open();
    await disk.overlay.trim(0, 160 * MiB, false);
    const lengths: number[] = [];
    for (let offset = 0; offset < 2048 * MiB; offset += lengths.at(-1)! * MiB) {
      const runs = await disk.overlay.blockStatus(offset, 2048 * MiB - offset, 1000);
      lengths.push(runs.reduce((sum, { length }) => sum + length, 0) / MiB);
    }
    expect(lengths).to.deep.equal([64, 64, 1024, 896]);
  });

  it('refuses what is outside of the disk', async () => {
    await using disk = await makeDisk();
    const { overlay } = disk;
    expect(await errorOf(overlay.write(Buffer.alloc(2), sizeBytes - 1, false))).to.be.instanceOf(RangeError);
    expect(await errorOf(overlay.trim(-1, 2, false))).to.be.instanceOf(RangeError);
    expect(await errorOf(overlay.trim(0, 2 ** 60, false))).to.be.instanceOf(RangeError);
    expect(await errorOf(overlay.read(Buffer.alloc(2), sizeBytes - 1))).to.be.instanceOf(RangeError);
    expect(() => overlay.readNow(Buffer.alloc(2), 0.5)).to.throw(RangeError);
  });

  it('counts what its logs and indexes take', async () => {
    await using disk = await makeDisk();
    expect(disk.overlay.openIsEmpty).to.equal(true);
    const empty = disk.overlay.logBytes;
    await disk.write(0, bytesOf(1, MiB));
    expect(disk.overlay.openIsEmpty).to.equal(false);
    expect(disk.overlay.logBytes - empty).to.be.within(MiB, MiB + 2000);
    expect(disk.overlay.indexBytes).to.be.within(2000, 200_000);
    await disk.rotate();
    expect(disk.overlay.openIsEmpty).to.equal(true);
    expect(disk.overlay.openIndexBytes).to.equal(0);
    expect(disk.overlay.logBytes - 2 * empty).to.be.within(MiB, MiB + 2000);
  });
});
