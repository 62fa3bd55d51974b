// Real threads, a real store, a file as the source.
import { mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { openDiskImage } from '../../../../src/formats/open.ts';
import { ChunkPool, type ChunkSource } from '../../../../src/images/import/chunk-pool.ts';
import { storeImage } from '../../../../src/images/import/store-image.ts';
import { memorySource } from '../../../../src/platform/byte-source.ts';
import { TransientError } from '../../../../src/platform/errors.ts';
import { createLog } from '../../../../src/platform/log.ts';
import { Semaphore } from '../../../../src/platform/semaphore.ts';
import { parsePageAddress } from '../../../../src/storage/address.ts';
import { layerSource } from '../../../../src/storage/layer-source.ts';
import { openStorage, type Storage } from '../../../../src/storage/open.ts';
import { chunkBytes } from '../../../../src/storage/sizes.ts';

describe('import threads', function () {
  this.timeout(60_000);
  let directory: string;
  let storage: Storage;
  let pool: ChunkPool;
  const content = Buffer.alloc(9 * chunkBytes + 1024);

  before(async () => {
    for (let index = 0; index < content.length; index += 4096) content.writeUInt32LE(index + 1, index);
    content.fill(0, 3 * chunkBytes, 5 * chunkBytes);
    directory = await mkdtemp(path.join(tmpdir(), 'obraz-pool-'));
    await writeFile(path.join(directory, 'source.raw'), content);
    storage = await openStorage({ directory: path.join(directory, 'blobs') });
    const log = createLog({ level: 'silent' });
    pool = new ChunkPool({
      threads: 2,
      storage: { directory: path.join(directory, 'blobs'), storeId: storage.storeId },
      log,
    });
  });

  after(async () => {
    await pool?.[Symbol.asyncDispose]();
    await storage?.[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });

  const options = async (fromIndex = 0) => ({
    image: await openDiskImage(memorySource(content), { maxSizeBytes: 2 ** 40, maxTableBytes: 1 << 20 }),
    chunkBytes,
    concurrency: pool.slots,
    fromIndex,
    checkpointIntervalMs: 0,
    onProgress: () => {},
    signal: new AbortController().signal,
  });

  const open = () => pool.open({ kind: 'file', path: path.join(directory, 'source.raw') });

  const bytesOf = async (root: string): Promise<Buffer> => {
    const bytes = Buffer.alloc(content.length);
    await layerSource(await storage.layers.open(parsePageAddress(root)), storage.chunks, content.length).read(bytes, 0);
    return bytes;
  };

  it('store an image whose bytes read back equal, and every checkpoint holds all that is below it', async () => {
    using source = open();
    const checkpoints: { root: string; nextIndex: number }[] = [];
    const onCheckpoint = async (checkpoint: { root: string; nextIndex: number }) => void checkpoints.push(checkpoint);
    const root = await storeImage({ ...(await options()), source, builder: await storage.layers.build(), onCheckpoint });
    expect((await bytesOf(root)).equals(content)).to.equal(true);
    expect((await storage.layers.open(parsePageAddress(root))).chunkCount).to.equal(8);
    expect(checkpoints).to.not.have.length(0);
    for (const { root: partial, nextIndex } of checkpoints) {
      const length = Math.min(nextIndex * chunkBytes, content.length);
      expect((await bytesOf(partial)).subarray(0, length).equals(content.subarray(0, length))).to.equal(true);
      const builder = await storage.layers.build(parsePageAddress(partial));
      const resumed = await storeImage({ ...(await options(nextIndex)), source, builder, onCheckpoint: async () => {} });
      expect(resumed).to.equal(root);
    }
  });

  it('leave checkpoints of an image that is under way as a whole, and comes slowly', async () => {
    using source = open();
    const turns = new Semaphore(1);
    const inTurn: ChunkSource = {
      ...source,
      async store(plan, signal) {
        const release = await turns.acquire(signal);
        try {
          return await source.store(plan, signal);
        } finally {
          release();
        }
      },
    };
    const reached: number[] = [];
    await storeImage({
      ...(await options()),
      concurrency: 100,
      source: inTurn,
      builder: await storage.layers.build(),
      onCheckpoint: async ({ nextIndex }) => void reached.push(nextIndex),
    });
    expect(reached).to.deep.equal(reached.toSorted((a, b) => a - b));
    // One a chunk, but for those that end while another is being written.
    expect(new Set(reached.filter((index) => index > 0 && index < 10)).size).to.be.at.least(3);
  });

  it('make no store where theirs is away or another one lies, and go on when it is back', async () => {
    const blobs = path.join(directory, 'mounted', 'blobs');
    const other = path.join(directory, 'other');
    const made = async (at: string): Promise<string> => {
      await using store = await openStorage({ directory: at });
      return store.storeId;
    };
    const storeId = await made(blobs);
    await made(other);
    await using own = new ChunkPool({
      threads: 2,
      storage: { directory: blobs, storeId },
      log: createLog({ level: 'silent' }),
    });
    const aside = path.join(directory, 'aside');
    const stores = async (): Promise<unknown> => {
      using source = own.open({ kind: 'bytes' });
      return await source
        .storeBytes(new Uint8Array(new SharedArrayBuffer(chunkBytes)).fill(7), new AbortController().signal)
        .then(
          ({ address }) => address,
          (error: unknown) => error,
        );
    };
    await rename(blobs, aside);
    expect(await stores())
      .to.be.instanceOf(TransientError)
      .with.property('message', 'the folder of the blob store is away');
    expect(await stores()).to.be.instanceOf(TransientError);
    expect(await readdir(path.dirname(blobs))).to.deep.equal([]);
    await rename(other, blobs);
    expect(await stores())
      .to.be.instanceOf(TransientError)
      .with.property('message')
      .that.matches(/what is in its place is another one/);
    await rm(blobs, { recursive: true });
    await rename(aside, blobs);
    for (let round = 0; round < 4; round += 1) expect(await stores()).to.be.a('string');
  });

  it('end with the first error, after every chunk under way has ended', async () => {
    using source = pool.open({ kind: 'file', path: path.join(directory, 'no-such-file') });
    const builder = await storage.layers.build();
    const error = await storeImage({ ...(await options()), source, builder, onCheckpoint: async () => {} }).catch(
      (reason: unknown) => reason,
    );
    expect(error)
      .to.be.instanceOf(Error)
      .with.property('message')
      .that.matches(/ENOENT|no such file/);
  });

  it('end with the reason of an abort', async () => {
    using source = open();
    const reason = new Error('cancelled by a test');
    const builder = await storage.layers.build();
    const signal = AbortSignal.abort(reason);
    const error = await storeImage({ ...(await options()), source, builder, signal, onCheckpoint: async () => {} }).catch(
      (failure: unknown) => failure,
    );
    expect(error).to.equal(reason);
  });
});
