// Real threads and a real store; the bytes come as a download would bring them.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { headBytes } from '../../../../src/formats/file-edges.ts';
import { ChunkPool, type ChunkSource } from '../../../../src/images/import/chunk-pool.ts';
import { LinearSink, NotLinearError } from '../../../../src/images/import/linear-sink.ts';
import { createLog } from '../../../../src/platform/log.ts';
import { parsePageAddress } from '../../../../src/storage/address.ts';
import { layerSource } from '../../../../src/storage/layer-source.ts';
import { openStorage, type Storage } from '../../../../src/storage/open.ts';
import { chunkBytes } from '../../../../src/storage/sizes.ts';
import { randomFrom, testSeed } from '../../../support/sample.ts';
import { refusalOf } from '../../../support/refusals.ts';
import { fixedVhd } from '../../../support/vhd-file.ts';

const limits = { maxSizeBytes: 2 ** 42, maxTableBytes: 2 ** 20 };

describe(`a source that is stored while it is read (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(60_000);
  const random = randomFrom(testSeed);
  let directory: string;
  let storage: Storage;
  let pool: ChunkPool;

  before(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'obraz-linear-'));
    const blobs = path.join(directory, 'blobs');
    storage = await openStorage({ directory: blobs });
    const log = createLog({ level: 'silent' });
    pool = new ChunkPool({ threads: 2, storage: { directory: blobs, storeId: storage.storeId }, log });
  });

  after(async () => {
    await pool?.[Symbol.asyncDispose]();
    await storage?.[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });

  const data = (length: number): Buffer => {
    const bytes = Buffer.alloc(length);
    for (let at = 0; at < length; at += 4096) bytes.writeUInt8(1 + Math.floor(random() * 255), at);
    if (length > 0) bytes[length - 1] = 7;
    return bytes;
  };

  const open = (chunks: Pick<ChunkSource, 'storeBytes'>, signal = new AbortController().signal) =>
    new LinearSink({ newBuilder: () => storage.layers.build(), chunks, signal });

  async function feed(sink: LinearSink, bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      // The download writes again into what it has handed over.
      const part = Buffer.from(bytes.subarray(at, at + 1 + Math.floor(random() * 1_500_000)));
      await sink.write(part, at);
      at += part.length;
      part.fill(0xee);
    }
  }

  async function stored(...attempts: Buffer[]): Promise<{ format: string; guest: Buffer; chunkCount: number }> {
    using chunks = pool.open({ kind: 'bytes' });
    const sink = open(chunks);
    for (const bytes of attempts) await feed(sink, bytes);
    const { image, root } = await sink.finish(limits);
    const layer = await storage.layers.open(parsePageAddress(root));
    const guest = Buffer.alloc(image.sizeBytes);
    await layerSource(layer, storage.chunks, image.sizeBytes).read(guest, 0);
    return { format: image.format, guest, chunkCount: layer.chunkCount };
  }

  const sizes = [headBytes + 1, 2 * headBytes].concat(
    [1, 2, 5].flatMap((chunks) => [-1, 0, 1].map((more) => chunks * chunkBytes + more)),
  );
  for (const size of sizes) {
    it(`holds the bytes of a RAW file of ${size} bytes`, async () => {
      const bytes = data(size);
      const { format, guest } = await stored(bytes);
      expect(format).to.equal('raw');
      expect(guest.length).to.equal(Math.ceil(size / 512) * 512);
      expect(guest.subarray(0, size).equals(bytes)).to.equal(true);
      expect(guest.subarray(size).every((byte) => byte === 0)).to.equal(true);
    });
  }

  it('stores no chunk of zeros', async () => {
    const bytes = Buffer.concat([Buffer.alloc(3 * chunkBytes), data(100), Buffer.alloc(5 * chunkBytes - 100)]);
    const { guest, chunkCount } = await stored(bytes);
    expect(guest.equals(bytes)).to.equal(true);
    expect(chunkCount).to.equal(1);
  });

  for (const size of [-1024, -512, 0, 512].map((more) => 3 * chunkBytes + more)) {
    it(`strips the footer of a fixed VHD of ${size} bytes`, async () => {
      const bytes = data(size);
      const { format, guest } = await stored(fixedVhd(bytes));
      expect(format).to.equal('vhd');
      expect(guest.equals(bytes)).to.equal(true);
    });
  }

  it('begins anew with a source that does, whatever came before', async () => {
    const whole = data(2 * chunkBytes + 5000);
    for (const cut of [10, chunkBytes + 1, 6 * chunkBytes]) {
      const { guest, chunkCount } = await stored(data(cut), data(cut), whole);
      expect(guest.subarray(0, whole.length).equals(whole)).to.equal(true);
      expect(chunkCount).to.equal(3);
    }
  });

  it('is refused for what its end shows', async () => {
    const dmg = data(9 * 2 ** 20);
    dmg.write('koly\0\0\0\x04', dmg.length - 512, 'latin1');
    expect(await refusalOf(stored(dmg))).to.include('DMG');
    const old = data(9 * 2 ** 20);
    old.write('conectix\0', old.length - 511, 'latin1');
    expect(await refusalOf(stored(old))).to.include('511 bytes');
    expect(await refusalOf(stored(fixedVhd(data(9 * 2 ** 20), { currentSize: 2n ** 24n })))).to.include('Current Size');
  });

  it('gives up where the disk ends long before the file does: that takes a second look', async () => {
    const bytes = fixedVhd(data(5 * chunkBytes), { currentSize: BigInt(chunkBytes) });
    const error = await stored(bytes).catch((reason: unknown) => reason);
    expect(error).to.be.instanceOf(NotLinearError);
  });

  it('holds a bounded number of chunks, and waits for those that are being stored', async () => {
    let underWay = 0;
    let most = 0;
    const waiting: (() => void)[] = [];
    const sink = open({
      storeBytes: () =>
        new Promise((resolve) => {
          most = Math.max(most, (underWay += 1));
          waiting.push(() => ((underWay -= 1), resolve({ address: undefined, bytesFetched: 0 })));
        }),
    });
    let isFed = false;
    const feeding = feed(sink, data(30 * chunkBytes)).finally(() => (isFed = true));
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve));
      if (isFed) break;
      // Only one that has to wait lets its chunks pile up.
      if (underWay >= 6) waiting.shift()!();
    }
    await feeding;
    expect(most).to.be.within(6, 8);
    for (const done of waiting) done();
    await sink.settled();
  });

  it('ends with the error of a chunk, or with the reason of an abort', async () => {
    const broken = new Error('no room');
    const sink = open({ storeBytes: () => Promise.reject(broken) });
    expect(await feed(sink, data(30 * chunkBytes)).catch((error: unknown) => error)).to.equal(broken);

    const reason = new Error('cancelled by a test');
    const controller = new AbortController();
    using chunks = pool.open({ kind: 'bytes' });
    const aborted = open(chunks, controller.signal);
    await feed(aborted, data(3 * chunkBytes));
    controller.abort(reason);
    expect(await feed(aborted, data(3 * chunkBytes)).catch((error: unknown) => error)).to.equal(reason);
    await aborted.settled();
  });
});
