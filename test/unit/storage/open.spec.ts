import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { expect } from 'chai';
import { memoryBlobStore } from '../../../src/storage/drivers/memory.ts';
import { StoreFormatError, parseFormat } from '../../../src/storage/format.ts';
import { layerSource } from '../../../src/storage/layer-source.ts';
import { openStorage, openStorageOn } from '../../../src/storage/open.ts';
import { chunkBytes } from '../../../src/storage/sizes.ts';
import { errorOf } from '../../contract/blob-store.contract.ts';
import { chunk } from './support/guest-data.ts';
import { temporaryFolder } from './support/places.ts';

const run = promisify(execFile);
const moduleUrl = new URL('../../../src/storage/open.ts', import.meta.url).href;
const format = {
  kind: 'obraz blob store',
  layout: 1,
  storeId: '01234567-89ab-cdef-0123-456789abcdef',
  hash: 'sha256',
  chunkBytes: 4194304,
  blockBytes: 65536,
  chunksPerLeaf: 1024,
  requires: [],
};

describe('storage', () => {
  it('makes an empty folder into a store, once and for all', async () => {
    await using folder = await temporaryFolder();
    const directory = path.join(folder.path, 'blobs');
    const first = await openStorage({ directory });
    const written = JSON.parse(await readFile(path.join(directory, 'format.json'), 'utf8')) as Record<string, unknown>;
    const { storeId, createdAt, ...rest } = written;
    const { storeId: _, ...fixed } = format;
    expect(rest).to.deep.equal(fixed);
    expect(Number.isFinite(Date.parse(String(createdAt)))).to.equal(true);
    expect(first.storeId).to.equal(storeId);
    const second = await openStorage({ directory });
    expect(second.storeId).to.equal(first.storeId);
    await first[Symbol.asyncDispose]();
    await second[Symbol.asyncDispose]();
  });

  it('is one store for all processes that make it at the same moment', async () => {
    await using folder = await temporaryFolder();
    for (let round = 0; round < 3; round += 1) {
      const directory = path.join(folder.path, String(round));
      const startAt = Date.now() + 700;
      const source = `
        const { openStorage } = await import(${JSON.stringify(moduleUrl)});
        while (Date.now() < ${startAt});
        console.log((await openStorage({ directory: ${JSON.stringify(directory)} })).storeId);`;
      const answers = await Promise.all([0, 1, 2, 3].map(() => run(process.execPath, ['--input-type=module', '-e', source])));
      const { storeId } = JSON.parse(await readFile(path.join(directory, 'format.json'), 'utf8')) as { storeId: string };
      expect(answers.map(({ stdout }) => stdout.trim())).to.deep.equal(Array(4).fill(storeId));
    }
  });

  it('is shared by threads', async () => {
    await using folder = await temporaryFolder();
    const storage = await openStorage({ directory: folder.path });
    const source = `
      const { parentPort } = require('node:worker_threads');
      (async () => {
        const { openStorage } = await import(${JSON.stringify(moduleUrl)});
        const { ChunkBuffer } = await import(${JSON.stringify(new URL('../../../src/storage/chunk-encoder.ts', import.meta.url).href)});
        const storage = await openStorage({ directory: ${JSON.stringify(folder.path)} });
        const buffer = new ChunkBuffer();
        const addresses = [];
        for (let value = 1; value <= 5; value += 1) {
          buffer.data.fill(value);
          addresses.push(await storage.chunks.store(buffer));
        }
        await storage[Symbol.asyncDispose]();
        parentPort.postMessage(addresses);
      })();`;
    const worker = new Worker(source, { eval: true });
    const addresses = await new Promise<string[]>((resolve, reject) => worker.once('message', resolve).once('error', reject));
    await worker.terminate();
    const builder = await storage.layers.build();
    for (const [index, address] of addresses.entries()) builder.set(index, address as Parameters<typeof builder.set>[1]);
    const layer = await storage.layers.open(await builder.flush());
    const target = new Uint8Array(5 * chunkBytes);
    await layerSource(layer, storage.chunks, target.length).read(target, 0);
    for (let value = 1; value <= 5; value += 1) expect(target[value * chunkBytes - 1]).to.equal(value);
    await storage[Symbol.asyncDispose]();
  });

  it('keeps what it holds when it is opened again', async () => {
    await using folder = await temporaryFolder();
    const data = chunk([1, 0, 2]);
    const first = await openStorage({ directory: folder.path, packing: 'zstd' });
    const address = (await first.chunks.store(data))!;
    await first[Symbol.asyncDispose]();
    const second = await openStorage({ directory: folder.path });
    const target = new Uint8Array(chunkBytes);
    await second.chunks.read(address, target, 0);
    expect(Buffer.compare(target, data)).to.equal(0);
    await second[Symbol.asyncDispose]();
  });

  describe('refuses to open', () => {
    const refusals: [what: string, text: string, message: string][] = [
      ['a format file that is not JSON', '{"kind"', 'damaged'],
      ['an empty format file', '', 'damaged'],
      ['a format file that is a list', 'null', 'damaged'],
      ['the store of something else', JSON.stringify({ ...format, kind: 'x' }), 'not the format file of an Obraz blob store'],
      [
        'a later layout',
        JSON.stringify({ ...format, layout: 2 }),
        'needs layout 2; this release knows layout 1: use a newer release',
      ],
      ['a feature that it does not know', JSON.stringify({ ...format, requires: ['encryption'] }), 'encryption'],
      ['a store without a list of features', JSON.stringify({ ...format, requires: undefined }), 'requirements'],
      [
        'a hash that it cannot compute',
        JSON.stringify({ ...format, hash: 'blake3' }),
        'is hashed with blake3; this release can compute sha256',
      ],
      ['other sizes', JSON.stringify({ ...format, chunkBytes: 1 }), 'chunkBytes 1; this release knows 4194304'],
      ['a store without an id', JSON.stringify({ ...format, storeId: 5 }), 'storeId'],
    ];
    for (const [what, text, message] of refusals)
      it(what, async () => {
        expect(() => parseFormat(text)).to.throw(StoreFormatError, message);
        await using folder = await temporaryFolder();
        await writeFile(path.join(folder.path, 'format.json'), text);
        expect(await errorOf(openStorage({ directory: folder.path }))).to.be.instanceOf(StoreFormatError);
        expect(await readFile(path.join(folder.path, 'format.json'), 'utf8')).to.equal(text);
      });

    it('a folder of objects whose format file was lost', async () => {
      const objects = new Map([['chunks/ab/ab', new Uint8Array(1)]]);
      const error = await errorOf(openStorageOn(memoryBlobStore(objects)));
      expect(error).to.be.instanceOf(StoreFormatError).with.property('message').that.includes('restore that file');
      expect(objects.size).to.equal(1);
    });

    it('a format file of absurd length without reading it', async () => {
      const objects = new Map([['format.json', new Uint8Array(10_000_000)]]);
      expect(await errorOf(openStorageOn(memoryBlobStore(objects)))).to.be.instanceOf(StoreFormatError);
    });
  });
});
