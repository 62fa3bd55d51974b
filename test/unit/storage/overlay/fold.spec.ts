import { expect } from 'chai';
import type { ChunkAddress, PageAddress } from '../../../../src/storage/address.ts';
import type { Admission } from '../../../../src/storage/admission.ts';
import { encodeChunk } from '../../../../src/storage/chunk-encoder.ts';
import { openLayerView } from '../../../../src/storage/layer-view.ts';
import { openStorage, type Storage } from '../../../../src/storage/open.ts';
import type { FoldCheckpoint, FoldProgress } from '../../../../src/storage/overlay/fold.ts';
import { chunkBytes } from '../../../../src/storage/sizes.ts';
import { errorOf } from '../../../contract/blob-store.contract.ts';
import { type BlockKind, chunk } from '../support/guest-data.ts';
import { OverlaidDisk, bytesOf, expectEqual, storeLayer } from '../support/overlaid-disk.ts';
import { type Folder, temporaryFolder } from '../support/places.ts';
import { randomFrom } from '../../../support/sample.ts';
import { open } from 'node:fs/promises';

const MiB = 1024 * 1024;
const TiB = 2 ** 40;

for (const threads of [0, 2])
  describe(`folding generations into a layer, ${threads === 0 ? 'in this thread' : 'in other threads'}`, () => {
    let folder: Folder;
    let storage: Storage;

    beforeEach(async () => {
      folder = await temporaryFolder();
      storage = await openStorage({ directory: `${folder.path}/store`, threads });
    });

    afterEach(async () => {
      await storage[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    });

    const signal = new AbortController().signal;

    async function entriesOf(root: PageAddress): Promise<Map<number, ChunkAddress>> {
      const entries = new Map<number, ChunkAddress>();
      for await (const [index, address] of (await storage.layers.open(root)).entries()) entries.set(index, address);
      return entries;
    }

    /** Ten chunks, some of them in the base; three generations above. */
    async function makeDisk(): Promise<OverlaidDisk> {
      const sizeBytes = 10 * chunkBytes;
      const base = new Map([0, 3, 5].map((index) => [index, chunk([1, 2, 0, 1], index)]));
      const model = Buffer.alloc(sizeBytes);
      for (const [index, data] of base) model.set(data, index * chunkBytes);
      const root = await storeLayer(storage, base);
      const disk = await new OverlaidDisk(storage, folder.path, sizeBytes, { root, sizeBytes }, model).open();
      await disk.write(100, bytesOf(1, 5000));
      await disk.write(2 * chunkBytes - 3000, bytesOf(2, 8 * MiB));
      await disk.rotate();
      await disk.trim(3 * chunkBytes, chunkBytes);
      await disk.write(7 * chunkBytes + 5, bytesOf(3, 70_000));
      await disk.write(8 * chunkBytes, Buffer.alloc(chunkBytes));
      await disk.rotate();
      await disk.write(7 * chunkBytes + 4096, bytesOf(4, 4096));
      await disk.zero(2 * chunkBytes + 8192, 3 * MiB, false);
      await disk.rotate();
      return disk;
    }

    it('makes a layer of what was written, and of the base where nothing was', async () => {
      await using disk = await makeDisk();
      const before = await entriesOf(disk.base!);
      const progress: FoldProgress[] = [];
      const { root, chunksStored, chunksZero } = await disk.foldSealed(disk.overlay.sealed, {
        onProgress: (now) => progress.push(now),
      });
      const after = await entriesOf(root);
      // Nothing is stored for zeros, whether trimmed, zeroed or written; what was not touched is shared.
      expect([...after.keys()]).to.deep.equal([0, 1, 2, 3, 5, 7].filter((index) => index !== 3 || after.has(3)));
      expect(after.has(3), 'the trimmed chunk').to.equal(false);
      expect(after.has(8), 'the chunk of written zeros').to.equal(false);
      expect(after.get(5)).to.equal(before.get(5));
      expect(chunksStored).to.equal(4);
      expect(chunksZero).to.equal(2);
      expect(progress.at(-1)).to.deep.equal({ chunksDone: 6, chunksTotal: 6 });
      const view = await openLayerView(storage, root, disk.sizeBytes);
      const bytes = Buffer.alloc(disk.sizeBytes);
      await view.read(bytes, 0);
      expectEqual(bytes, disk.model, 0);
      await disk.foldAll();
      await disk.expectAll();
    });

    it('has the same root however it is cut into generations', async () => {
      await using disk = await makeDisk();
      const all = await disk.foldSealed(disk.overlay.sealed);
      let { base } = disk;
      for (const generation of disk.overlay.sealed) {
        disk.base = base;
        base = (await disk.foldSealed([generation])).root;
      }
      expect(base).to.equal(all.root);
    });

    it('goes on from its checkpoint after it was stopped', async () => {
      const sizeBytes = 300 * chunkBytes;
      await using disk = await new OverlaidDisk(storage, folder.path, sizeBytes, undefined, Buffer.alloc(0)).open();
      for (let index = 0; index < 300; index += 2) await disk.overlay.write(bytesOf(index, 4096), index * chunkBytes, false);
      await disk.rotate();
      const whole = await disk.foldSealed(disk.overlay.sealed);
      const stop = new AbortController();
      const reason = new Error('stopped');
      const checkpoints: FoldCheckpoint[] = [];
      const stopped = disk.foldSealed(disk.overlay.sealed, {
        signal: stop.signal,
        checkpointMs: 0,
        onCheckpoint: async (checkpoint) => {
          checkpoints.push(checkpoint);
          if (checkpoints.length === 2) stop.abort(reason);
        },
      });
      expect(await errorOf(stopped)).to.equal(reason);
      expect(checkpoints.length).to.equal(2);
      const resume = checkpoints[1]!;
      expect(Math.max(...(await entriesOf(resume.root)).keys())).to.be.lessThan(resume.nextIndex);
      const rest = await disk.foldSealed(disk.overlay.sealed, { resume });
      expect(rest.root).to.equal(whole.root);
      expect(rest.chunksStored).to.equal(300 / 2 - (await entriesOf(resume.root)).size);
    });

    it('stops at once when it is told to', async () => {
      await using disk = await makeDisk();
      const stop = new AbortController();
      const reason = new Error('stopped');
      const running = disk.foldSealed(disk.overlay.sealed, {
        signal: stop.signal,
        onProgress: () => stop.abort(reason),
      });
      expect(await errorOf(running)).to.equal(reason);
      expect(await errorOf(disk.foldSealed(disk.overlay.sealed, { signal: AbortSignal.abort(reason) }))).to.equal(reason);
      await disk.foldAll();
      await disk.expectAll();
    });

    it('takes a huge sparse disk in the time that its writes take, trimmed or not', async () => {
      const sizeBytes = 4 * TiB;
      const base = new Map([0, 500_000, 1_000_000].map((index) => [index, chunk([1], index)]));
      const root = await storeLayer(storage, base);
      await using disk = await new OverlaidDisk(storage, folder.path, sizeBytes, { root, sizeBytes }, Buffer.alloc(0)).open();
      await disk.overlay.trim(4096, sizeBytes - 8192, false);
      await disk.overlay.write(bytesOf(1, 4096), 3 * TiB, false);
      await disk.overlay.write(bytesOf(2, 10), sizeBytes - 10, false);
      await disk.rotate();
      expect(disk.overlay.indexBytes).to.be.lessThan(MiB);
      const folded = await disk.foldSealed(disk.overlay.sealed);
      expect([...(await entriesOf(folded.root)).keys()]).to.deep.equal([0, (3 * TiB) / chunkBytes, sizeBytes / chunkBytes - 1]);
      const runs = await disk.overlay.blockStatus(0, 2 ** 32, 10);
      expect(runs[0]).to.deep.equal({ length: 4096, hole: false, zero: false });
      expect(runs[1]).to.include({ hole: true, zero: true });
      await disk.foldAll();
      const target = Buffer.alloc(4096);
      await disk.overlay.read(target, 3 * TiB);
      expectEqual(target, bytesOf(1, 4096), 0);
      await disk.overlay.read(target, 500_000 * chunkBytes);
      expectEqual(target, Buffer.alloc(4096), 0);
      await disk.overlay.read(target, 0);
      expectEqual(target, base.get(0)!.subarray(0, 4096), 0);
    });

    it('asks for admission before it relies on anything, and ends with what that throws', async () => {
      await using disk = await makeDisk();
      const asked: string[] = [];
      const admission: Admission = async (keys) => {
        asked.push(...keys);
        return keys.map(() => 'fresh');
      };
      const { root } = await disk.foldSealed(disk.overlay.sealed, { admission });
      const kept = await entriesOf(root);
      for (const index of [0, 1, 2, 7]) {
        const address = kept.get(index)!;
        expect(asked).to.include(`chunks/${address.slice(0, 2)}/${address}`);
      }
      expect(asked).to.include(`pages/${root.slice(0, 2)}/${root}`);
      const refusal = disk.foldSealed(disk.overlay.sealed, { admission: () => Promise.reject(new Error('no writer')) });
      expect(await errorOf(refusal)).to.have.property('message', 'no writer');
    });

    it('fails where a log is damaged, and stores nothing wrong', async () => {
      await using disk = await makeDisk();
      const file = await open(disk.file(1), 'r+');
      await file.write(Buffer.from([1, 2, 3, 4]), 0, 4, 4096 + 80 + 1000);
      await file.close();
      const error = await errorOf(disk.foldSealed(disk.overlay.sealed, { signal }));
      expect(error).to.have.property('code', 'DATA_LOSS');
      expect((error as Error).message).to.include('generation 1 of disk disk1');
    });

    it('makes the chunks that hashing all of their bytes makes, whatever is patched in them', async () => {
      const random = randomFrom(20_260);
      const below = (bound: number): number => Math.floor(random() * bound);
      const sizeBytes = 6 * chunkBytes;
      const model = Buffer.alloc(sizeBytes);
      // Blocks of all kinds, and chunks of no kind, raw only, and packed where they can be.
      const base = new Map([0, 1, 2, 4].map((index) => [index, chunk(kindsOf(random, index === 0 ? [1] : [0, 1, 2]), index)]));
      for (const [index, data] of base) model.set(data, index * chunkBytes);
      await using packing = await openStorage({ directory: `${folder.path}/store`, packing: 'zstd' });
      const root = await storeLayer(packing, base);
      await using disk = await new OverlaidDisk(storage, folder.path, sizeBytes, { root, sizeBytes }, model).open();
      for (let count = 0; count < 60; count += 1) {
        const length = [512, 4096, 65_536, 200_000][below(4)]!;
        const offset = below((sizeBytes - length) / 512) * 512;
        const kind = below(8);
        // What is there already, zeros, and other bytes.
        if (kind === 0) await disk.write(offset, Buffer.from(model.subarray(offset, offset + length)));
        else if (kind === 1) await disk.zero(offset, length, count % 2 === 0);
        else if (kind === 2) await disk.trim(offset, length);
        else await disk.write(offset, bytesOf(count, length));
        if (count % 25 === 24) await disk.rotate();
      }
      await disk.rotate();
      const folded = await disk.foldSealed(disk.overlay.sealed);
      const entries = await entriesOf(folded.root);
      for (let index = 0; index < 6; index += 1) {
        const data = Buffer.from(model.subarray(index * chunkBytes, (index + 1) * chunkBytes));
        expect(entries.get(index), `chunk ${index}`).to.equal(encodeChunk(data)?.address);
      }
      await disk.foldAll();
      await disk.expectAll();
    });

    it('does not pass on a block of the base that is damaged, and does without one that it need not read', async () => {
      const sizeBytes = 2 * chunkBytes;
      const base = new Map([0, 1].map((index) => [index, chunk(Array<1>(64).fill(1), index)]));
      const model = Buffer.alloc(sizeBytes);
      for (const [index, data] of base) model.set(data, index * chunkBytes);
      const root = await storeLayer(storage, base);
      await using disk = await new OverlaidDisk(storage, folder.path, sizeBytes, { root, sizeBytes }, model).open();
      await disk.write(10 * 65_536, bytesOf(1, 2 * 65_536));
      await disk.write(chunkBytes + 4096, bytesOf(2, 4096));
      await disk.rotate();
      const addresses = await entriesOf(root);
      const flip = async (index: number, blockOfIt: number): Promise<void> => {
        const address = addresses.get(index)!;
        const file = await open(`${folder.path}/store/chunks/${address.slice(0, 2)}/${address}`, 'r+');
        const at = 4096 + blockOfIt * 65_536 + 77;
        const byte = Buffer.alloc(1);
        await file.read(byte, 0, 1, at);
        await file.write(Buffer.from([byte[0]! ^ 1]), 0, 1, at);
        await file.close();
      };
      await flip(0, 11);
      await disk.foldSealed(disk.overlay.sealed);
      await flip(1, 40);
      const stored = await entriesOf(root);
      const error = await errorOf(disk.foldSealed(disk.overlay.sealed));
      expect(error).to.have.property('code', 'DATA_LOSS');
      expect((error as Error).message)
        .to.include(stored.get(1))
        .and.include('block 40');
    });
  });

const kindsOf = (random: () => number, kinds: readonly BlockKind[]): BlockKind[] =>
  Array.from({ length: 64 }, () => kinds[Math.floor(random() * kinds.length)]!);
