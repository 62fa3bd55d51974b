import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import * as fc from 'fast-check';
import { DomainError, TransientError } from '../../../src/platform/errors.ts';
import type { Admitted } from '../../../src/storage/admission.ts';
import type { BlobStore } from '../../../src/storage/blob-store.ts';
import { type EncodedChunk, encodeChunk } from '../../../src/storage/chunk-encoder.ts';
import { headerBytes } from '../../../src/storage/chunk-format.ts';
import { ChunkStore } from '../../../src/storage/chunk-store.ts';
import { ChunkCorruptError, type CorruptFinding } from '../../../src/storage/damage.ts';
import { memoryBlobStore } from '../../../src/storage/drivers/memory.ts';
import { type HashAlgorithm, sha256 } from '../../../src/storage/hash-algorithm.ts';
import { chunkKey, corruptMarkKey } from '../../../src/storage/paths.ts';
import { blockBytes, chunkBytes } from '../../../src/storage/sizes.ts';
import { errorOf } from '../../contract/blob-store.contract.ts';
import { type BlockKind, chunk } from './support/guest-data.ts';
import { counting } from './support/places.ts';

const kinds = fc.array(fc.constantFrom<BlockKind>(0, 1, 2), { minLength: 1, maxLength: 64 });
const range = fc
  .tuple(fc.nat(chunkBytes), fc.oneof(fc.nat(3 * blockBytes), fc.nat(chunkBytes)))
  .map(([offset, length]) => ({ offset, length: Math.min(length, chunkBytes - offset) }));

describe('chunk store', () => {
  let objects: Map<string, Uint8Array>;
  let findings: CorruptFinding[];

  beforeEach(() => {
    objects = new Map();
    findings = [];
  });

  const openStore = (blobs: BlobStore = memoryBlobStore(objects)) =>
    new ChunkStore({ blobs, onCorrupt: (finding) => findings.push(finding) });

  const readWhole = async (store: ChunkStore, encoded: EncodedChunk): Promise<Uint8Array> => {
    const target = new Uint8Array(chunkBytes);
    await store.read(encoded.address, target, 0);
    return target;
  };

  it('answers any range of what was stored, however it is packed', async () => {
    await fc.assert(
      fc.asyncProperty(
        kinds,
        fc.nat(9),
        fc.array(range, { minLength: 1, maxLength: 6 }),
        fc.boolean(),
        async (blocks, seed, ranges, packs) => {
          objects.clear();
          const data = chunk(blocks, seed);
          const store = new ChunkStore({ blobs: memoryBlobStore(objects), packing: packs ? 'zstd' : 'none' });
          const address = await store.store(data);
          if (address === undefined) {
            expect(objects.size).to.equal(0);
            return;
          }
          await Promise.all(
            ranges.map(async ({ offset, length }) => {
              const target = new Uint8Array(length).fill(0xee);
              await store.read(address, target, offset);
              expect(Buffer.compare(target, data.subarray(offset, offset + length))).to.equal(0);
            }),
          );
        },
      ),
      { numRuns: 30 },
    );
  });

  it('refuses ranges outside of a chunk before it asks the store', async () => {
    const { address } = encodeChunk(chunk([1]))!;
    for (const [offset, length] of [
      [0, chunkBytes + 1],
      [chunkBytes, 1],
      [-1, 1],
      [0.5, 1],
    ] as const)
      expect(await errorOf(openStore().read(address, new Uint8Array(length), offset))).to.be.instanceOf(RangeError);
    expect(findings).to.deep.equal([]);
  });

  it('writes a chunk once', async () => {
    const { store: blobs, counts } = counting(memoryBlobStore(objects));
    const encoded = encodeChunk(chunk([1, 2]))!;
    expect(await openStore(blobs).put(encoded)).to.equal(true);
    expect(await openStore(blobs).put(encoded)).to.equal(false);
    expect(await openStore(blobs).put(encodeChunk(chunk([1, 2]), { packing: 'zstd' })!)).to.equal(false);
    expect(counts.put).to.equal(3);
    expect(objects.get(chunkKey(encoded.address))).to.have.length(4096 + 2 * blockBytes);
  });

  describe('reads no more than it must', () => {
    it('fetches the header and one block for a cold read of a few bytes', async () => {
      const encoded = encodeChunk(chunk(Array<BlockKind>(64).fill(1)))!;
      await openStore().put(encoded);
      const sizes: number[] = [];
      const inner = memoryBlobStore(objects);
      const blobs: BlobStore = {
        ...bound(inner),
        get: async (key, asked, options) => (sizes.push(asked!.length), inner.get(key, asked, options)),
      };
      const store = openStore(blobs);
      await store.read(encoded.address, new Uint8Array(4096), 70_000);
      expect(sizes).to.deep.equal([4096, blockBytes]);
      await store.read(encoded.address, new Uint8Array(4096), 80_000);
      expect(sizes).to.have.length(2);
      await store.read(encoded.address, new Uint8Array(chunkBytes), 0);
      expect(sizes.slice(2).every((size) => size <= 1024 * 1024)).to.equal(true);
      expect(sizes.slice(2)).to.have.length(4);
    });

    it('fetches nothing for zeros', async () => {
      const encoded = encodeChunk(chunk([1]))!;
      await openStore().put(encoded);
      const { store: blobs, counts } = counting(memoryBlobStore(objects));
      const store = openStore(blobs);
      const target = new Uint8Array(3 * blockBytes).fill(1);
      await store.read(encoded.address, target, blockBytes + 5);
      expect(counts.get).to.equal(1);
      expect(target.every((byte) => byte === 0)).to.equal(true);
    });

    it('fetches once what many want at the same time', async () => {
      const data = chunk([1, 1]);
      const encoded = encodeChunk(data)!;
      await openStore().put(encoded);
      const { store: blobs, counts } = counting(memoryBlobStore(objects));
      const store = openStore(blobs);
      await Promise.all(
        Array.from({ length: 16 }, async (_, index) => {
          const target = new Uint8Array(4096);
          await store.read(encoded.address, target, index * 4096);
          expect(Buffer.compare(target, data.subarray(index * 4096, (index + 1) * 4096))).to.equal(0);
        }),
      );
      expect(counts.get).to.equal(2);
    });
  });

  describe('reading a block again', () => {
    let hashed: number;
    const hash: HashAlgorithm = { ...sha256, digest: (bytes) => ((hashed += 1), sha256.digest(bytes)) };
    /** As the local driver reads: into the caller's memory. */
    const opened = (): ChunkStore => {
      const inner = memoryBlobStore(objects);
      const blobs: BlobStore = {
        ...counting(inner).store,
        async readInto(key, offset, targets) {
          for (const target of targets) {
            target.set(await inner.get(key, { offset, length: target.length }));
            offset += target.length;
          }
        },
      };
      return new ChunkStore({ blobs, hash, onCorrupt: (finding) => findings.push(finding) });
    };

    it('does not hash it, and still answers no bit that was changed since', async () => {
      const data = chunk([1, 1, 0, 1]);
      const encoded = encodeChunk(data)!;
      const key = chunkKey(encoded.address);
      const object = Buffer.concat(encoded.parts);
      objects.set(key, object);
      const store = opened();
      const checks = new Float64Array(64);
      const targets = [0, 1].map(() => Buffer.from(new SharedArrayBuffer(blockBytes)));
      hashed = 0;
      await store.readBlocks(encoded.address, 0, targets, checks);
      expect(hashed).to.be.greaterThan(1);
      hashed = 0;
      await store.readBlocks(encoded.address, 0, targets, checks);
      expect(hashed).to.equal(0);
      expect(Buffer.concat(targets).equals(data.subarray(0, 2 * blockBytes))).to.equal(true);
      await fc.assert(
        fc.asyncProperty(fc.nat(2 * blockBytes * 8 - 1), async (bit) => {
          const damaged = Buffer.from(object);
          damaged[headerBytes + (bit >> 3)]! ^= 1 << (bit & 7);
          objects.set(key, damaged);
          expect(await errorOf(store.readBlocks(encoded.address, 0, targets, checks))).to.be.instanceOf(ChunkCorruptError);
        }),
        { numRuns: 100 },
      );
      objects.set(key, object);
      await store.readBlocks(encoded.address, 0, targets, checks);
      expect(Buffer.concat(targets).equals(data.subarray(0, 2 * blockBytes))).to.equal(true);
    });
  });

  describe('with a damaged object', () => {
    it('answers an error and never data, whichever bit is wrong', async () => {
      const data = chunk([1, 0, 2]);
      for (const packing of ['none', 'zstd'] as const) {
        const encoded = encodeChunk(data, { packing })!;
        const key = chunkKey(encoded.address);
        const object = Buffer.concat(encoded.parts);
        await fc.assert(
          fc.asyncProperty(fc.nat(object.length * 8 - 1), range, async (bit, { offset, length }) => {
            const damaged = Buffer.from(object);
            damaged[bit >> 3]! ^= 1 << (bit & 7);
            objects.set(key, damaged);
            const store = openStore();
            expect(await errorOf(readWhole(store, encoded))).to.be.instanceOf(ChunkCorruptError);
            const target = new Uint8Array(length);
            const error = await errorOf(store.read(encoded.address, target, offset));
            if (error === undefined) expect(Buffer.compare(target, data.subarray(offset, offset + length))).to.equal(0);
            else expect(error).to.be.instanceOf(ChunkCorruptError);
          }),
          { numRuns: 150 },
        );
      }
    });

    it('answers an error when it is cut short anywhere', async () => {
      const encoded = encodeChunk(chunk([1, 0, 2]))!;
      const object = Buffer.concat(encoded.parts);
      for (const length of [0, 1, 4095, 4096, 4097, 4096 + blockBytes, object.length - 1]) {
        objects.set(chunkKey(encoded.address), object.subarray(0, length));
        expect(await errorOf(readWhole(openStore(), encoded)), String(length)).to.be.instanceOf(ChunkCorruptError);
      }
      expect(findings).to.have.length(7);
    });

    it('answers an error when it is another chunk, or gone', async () => {
      const [one, two] = [encodeChunk(chunk([1], 1))!, encodeChunk(chunk([1], 2))!];
      objects.set(chunkKey(one.address), Buffer.concat(two.parts));
      expect(await errorOf(readWhole(openStore(), one))).to.be.instanceOf(ChunkCorruptError);
      const error = await errorOf(readWhole(openStore(), two));
      expect(error).to.be.instanceOf(ChunkCorruptError).and.instanceOf(DomainError).with.property('code', 'DATA_LOSS');
      expect(findings.map(({ address, reason }) => [address, reason])).to.deep.equal([
        [one.address, 'it holds another chunk'],
        [two.address, 'it is missing'],
      ]);
    });

    it('still answers the blocks that are whole', async () => {
      const data = chunk([1, 1, 1]);
      const encoded = encodeChunk(data)!;
      const object = Buffer.concat(encoded.parts);
      object[4096 + blockBytes]! ^= 1;
      objects.set(chunkKey(encoded.address), object);
      const store = openStore();
      const target = new Uint8Array(blockBytes);
      await store.read(encoded.address, target, 2 * blockBytes);
      expect(Buffer.compare(target, data.subarray(2 * blockBytes, 3 * blockBytes))).to.equal(0);
      expect(await errorOf(store.read(encoded.address, target, blockBytes))).to.be.instanceOf(ChunkCorruptError);
    });

    it('is repaired by the next put of its bytes, in whatever process', async () => {
      const encoded = encodeChunk(chunk([1, 1]))!;
      const key = chunkKey(encoded.address);
      const object = Buffer.concat(encoded.parts);
      object[object.length - 1]! ^= 1;
      objects.set(key, object);
      const reader = openStore();
      expect(await errorOf(readWhole(reader, encoded))).to.be.instanceOf(ChunkCorruptError);
      expect(objects.has(corruptMarkKey(key))).to.equal(true);
      expect(await openStore().put(encoded)).to.equal(true);
      expect(objects.has(corruptMarkKey(key))).to.equal(false);
      expect(Buffer.compare(await readWhole(reader, encoded), chunk([1, 1]))).to.equal(0);
      expect(await openStore().put(encoded)).to.equal(false);
    });

    it('is not relied upon when its header or its length shows it, although nobody has read it', async () => {
      const encoded = encodeChunk(chunk([1, 1]))!;
      const object = Buffer.concat(encoded.parts);
      for (const damaged of [
        object.subarray(0, object.length - 1),
        Buffer.concat([object, Buffer.alloc(1)]),
        Buffer.alloc(object.length),
        Buffer.alloc(0),
      ]) {
        objects.set(chunkKey(encoded.address), damaged);
        expect(await openStore().put(encoded)).to.equal(true);
        expect(Buffer.compare(objects.get(chunkKey(encoded.address))!, object)).to.equal(0);
      }
    });

    it('is not taken for damaged when it was replaced by one that is packed otherwise', async () => {
      const data = chunk([2, 1, 2, 2]);
      const encoded = encodeChunk(data)!;
      const store = openStore();
      await store.put(encoded);
      await store.read(encoded.address, new Uint8Array(10), 0);
      objects.set(chunkKey(encoded.address), Buffer.concat(encodeChunk(data, { packing: 'zstd' })!.parts));
      expect(Buffer.compare(await readWhole(store, encoded), data)).to.equal(0);
      expect(findings).to.deep.equal([]);
    });

    it('reads on when the mark cannot be written', async () => {
      const encoded = encodeChunk(chunk([1]))!;
      const inner = memoryBlobStore(objects);
      const blobs: BlobStore = { ...bound(inner), put: () => Promise.reject(new TransientError('full')) };
      expect(await errorOf(readWhole(openStore(blobs), encoded))).to.be.instanceOf(ChunkCorruptError);
    });
  });

  describe('admission', () => {
    const admitting = (answers: Admitted[], asked: string[][] = []) =>
      new ChunkStore({
        blobs: memoryBlobStore(objects),
        admission: async (keys) => {
          asked.push([...keys]);
          return [answers.shift()!];
        },
      });

    it('is asked before every put, whether the object exists or not', async () => {
      const encoded = encodeChunk(chunk([1]))!;
      const asked: string[][] = [];
      const store = admitting(['fresh', 'fresh'], asked);
      expect(await store.put(encoded)).to.equal(true);
      expect(await store.put(encoded)).to.equal(false);
      expect(asked).to.deep.equal([[chunkKey(encoded.address)], [chunkKey(encoded.address)]]);
    });

    it('has the object written anew when it was condemned, although it seems to exist', async () => {
      const encoded = encodeChunk(chunk([1]))!;
      const key = chunkKey(encoded.address);
      objects.set(key, Buffer.concat(encoded.parts));
      const before = objects.get(key);
      expect(await admitting(['rewrite']).put(encoded)).to.equal(true);
      expect(objects.get(key)).to.not.equal(before);
    });

    it('that is not given lets nothing be put', async () => {
      const error = new TransientError('the collector does not answer');
      const store = new ChunkStore({ blobs: memoryBlobStore(objects), admission: () => Promise.reject(error) });
      expect(await errorOf(store.store(chunk([1])))).to.equal(error);
      expect(objects.size).to.equal(0);
    });
  });

  it('touches the target no more once a read has ended', async () => {
    const encoded = encodeChunk(chunk(Array<BlockKind>(64).fill(1)))!;
    await openStore().put(encoded);
    const inner = memoryBlobStore(objects);
    let calls = 0;
    const blobs: BlobStore = {
      ...bound(inner),
      get: async (key, asked, options) => {
        if (asked!.offset === 0) return inner.get(key, asked, options);
        calls += 1;
        if (calls === 1) throw new TransientError('away');
        await sleep(20);
        return inner.get(key, asked, options);
      },
    };
    const target = new Uint8Array(chunkBytes);
    expect(await errorOf(openStore(blobs).read(encoded.address, target, 0))).to.be.instanceOf(TransientError);
    target.fill(0xaa);
    await sleep(60);
    expect(calls).to.equal(4);
    expect(target.every((byte) => byte === 0xaa)).to.equal(true);
  });

  it('lets go of a read that is aborted, and not of the others that wait for the same block', async () => {
    const data = chunk([1]);
    const encoded = encodeChunk(data)!;
    await openStore().put(encoded);
    const inner = memoryBlobStore(objects);
    const blobs: BlobStore = { ...bound(inner), get: async (...call) => (await sleep(10), inner.get(...call)) };
    const store = openStore(blobs);
    const controller = new AbortController();
    const reason = new Error('enough');
    const aborted = errorOf(store.read(encoded.address, new Uint8Array(10), 0, controller.signal));
    const target = new Uint8Array(10);
    const other = store.read(encoded.address, target, 5);
    controller.abort(reason);
    expect(await aborted).to.equal(reason);
    await other;
    expect(Buffer.compare(target, data.subarray(5, 15))).to.equal(0);
    expect(await errorOf(store.read(encoded.address, new Uint8Array(10), 0, AbortSignal.abort(reason)))).to.equal(reason);
  });

  it('verifies whole objects, past what it remembers', async () => {
    const encoded = encodeChunk(chunk([1, 2]), { packing: 'zstd' })!;
    const key = chunkKey(encoded.address);
    const store = openStore();
    await store.put(encoded);
    await readWhole(store, encoded);
    expect(await store.verify(encoded.address)).to.equal(objects.get(key)!.length);
    objects.set(key, Buffer.concat([objects.get(key)!, Buffer.alloc(1)]));
    expect(await errorOf(store.verify(encoded.address)))
      .to.be.instanceOf(ChunkCorruptError)
      .with.property('message')
      .that.includes('its length is not what its header says');
  });
});

const bound = (store: BlobStore): BlobStore => ({
  put: (...call) => store.put(...call),
  get: (...call) => store.get(...call),
  stat: (key) => store.stat(key),
  delete: (key) => store.delete(key),
  list: (prefix) => store.list(prefix),
  [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
});
