// A bit flips in a stored chunk: nothing wrong is ever served, reads fail and are counted, scrub names everything that the chunk touches, an
// optimized image does not become READY over it, and an upload of the same data repairs it.
import { execFile } from 'node:child_process';
import { mkdtemp, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { ObrazClient } from '../support/client.ts';
import { command, type CommandEnded } from '../support/command.ts';
import { requireQemuImg } from '../support/images.ts';
import { randomFrom, sampledIt, testSeed } from '../support/sample.ts';
import { Obraz } from '../support/obraz.ts';
import { removeDataFolder, type TestDatabase, testDatabase } from '../support/postgres.ts';
import { rows } from '../support/slow-import.ts';
import { blobDirectoryOf } from '../support/stored-image.ts';
import { startWebServer } from '../support/web-server.ts';

const MiB = 1024 * 1024;
const chunkBytes = 4 * MiB;
const uri = (value: string) => ({ $case: 'uri', value }) as const;
const imageId = (value: string) => ({ $case: 'imageId', value }) as const;
const run = promisify(execFile);

const sampled = sampledIt({ of: 3 });

describe(`damaged data end to end (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(180_000);
  const random = randomFrom(testSeed);
  let database: TestDatabase;
  let dataDirectory: string;
  let obraz: Obraz;
  let client: ObrazClient;

  const start = async () => {
    obraz = await Obraz.start({ dataDirectory, environment: { DATABASE_URL: database.url } });
    client = await ObrazClient.of(obraz);
  };

  const stop = async () => {
    client?.[Symbol.dispose]();
    await obraz?.[Symbol.asyncDispose]();
  };

  before(async () => {
    database = await testDatabase();
    dataDirectory = await mkdtemp(path.join(tmpdir(), 'obraz-e2e-'));
    await start();
    expect(await obrazCommand('quota', 'set', 'compute.diskPools.count', '5')).to.include({ status: 0 });
  });

  after(async () => {
    await stop();
    await removeDataFolder(dataDirectory);
    await database?.dispose();
  });

  const obrazCommand = (...words: string[]): Promise<CommandEnded> =>
    command({ dataDirectory, environment: { DATABASE_URL: database.url } }, ...words);

  const noise = (mebibytes: number): Buffer => {
    const bytes = Buffer.alloc(mebibytes * MiB);
    for (let at = 0; at < bytes.length; at += 64) bytes.writeUInt32LE(random() * 2 ** 32, at);
    return bytes;
  };

  const imported = async (content: Buffer) => {
    await using web = await startWebServer({ content });
    // Awaited here: the server is there only inside this function.
    return await client.import({ source: uri(web.url()) });
  };

  const metrics = async (): Promise<string> => {
    const { addresses } = await obraz.bootstrap();
    return (await fetch(`http://${addresses.http}/metrics`)).text();
  };
  const metric = async (series: string): Promise<number> =>
    Number(
      (await metrics())
        .split('\n')
        .find((line) => line.startsWith(`${series} `))
        ?.split(' ')
        .at(-1) ?? 'NaN',
    );

  const blobs = () => blobDirectoryOf(dataDirectory);

  /** Keys of the stored chunks. */
  async function chunkKeys(): Promise<string[]> {
    const files = await readdir(path.join(blobs(), 'chunks'), { recursive: true, withFileTypes: true }).catch(() => []);
    return files.filter((file) => file.isFile()).map(({ name }) => `chunks/${name.slice(0, 2)}/${name}`);
  }

  /** Stores one chunk of `content`'s own by an image, and answers its key: the only new one. */
  async function keyOfNewChunk(store: () => Promise<unknown>): Promise<string> {
    const before = new Set(await chunkKeys());
    await store();
    const added = (await chunkKeys()).filter((key) => !before.has(key));
    expect(added.length).to.equal(1);
    return added[0]!;
  }

  async function flipBit(key: string): Promise<void> {
    const file = path.join(blobs(), key);
    await using handle = await open(file, 'r+');
    const { size } = await handle.stat();
    const at = 4096 + Math.floor(random() * (size - 4096));
    const byte = Buffer.alloc(1);
    await handle.read(byte, 0, 1, at);
    byte[0]! ^= 1 << Math.floor(random() * 8);
    await handle.write(byte, 0, 1, at);
    await handle.sync();
  }

  const failed = async (request: Parameters<ObrazClient['createImage']>[0]) => {
    const done = await client.wait(await client.createImage(request));
    if (done.result?.$case !== 'error') throw new Error('it succeeded');
    return done.result.value;
  };

  /** The command's lines that name what a damaged object touches: `image fd8… "name"`. */
  const touched = (ended: CommandEnded, key: string): string[] => {
    const lines = ended.out.split('\n');
    const from = lines.findIndex((line) => line.startsWith(`${key}: `)) + 1;
    if (from === 0) return [];
    const rest = lines.slice(from);
    return rest
      .slice(
        0,
        rest.findIndex((line) => !line.startsWith('  ')),
      )
      .map((line) => line.trim());
  };

  it('names in scrub every image, snapshot and disk that it touches, and no other', async () => {
    const shared = noise(4);
    const key = await keyOfNewChunk(() => imported(shared));
    const content = Buffer.concat([noise(4), shared]);
    const image = await client.import({ name: 'touched', source: imageId((await imported(content)).id) });
    const disk = await client.disk({ source: imageId(image.id), size: BigInt(64 * MiB) });
    const snapshot = await client.snapshot({ diskId: disk.id, name: 'taken' });
    const other = await imported(noise(4));
    await flipBit(key);
    const expectNamed = (ended: CommandEnded) => {
      expect(ended.status, ended.err).to.equal(3);
      const holders = touched(ended, key);
      expect(holders).to.include.members([`image ${image.id} "touched"`, `disk ${disk.id}`, `snapshot ${snapshot.id} "taken"`]);
      // The image of the shared chunk alone, and the one that "touched" is a copy of.
      expect(holders.length, ended.out).to.equal(5);
      expect(ended.out).not.to.include(other.id);
      expect(ended.out).to.match(/damaged or missing: 1; touched by that: 5\n$/);
    };
    expectNamed(await obrazCommand('scrub'));
    expect(await metric('obraz_scrub_damaged_objects{kind="chunks"}')).to.equal(1);
    expect(await metric('obraz_scrub_touched_resources{kind="images"}')).to.equal(3);
    expect(await metric('obraz_scrub_touched_resources{kind="snapshots"}')).to.equal(1);
    expect(await metric('obraz_scrub_touched_resources{kind="disks"}')).to.equal(1);
    expect(await metric('obraz_scrub_passes_total{outcome="damaged"}')).to.equal(1);
    expect(obraz.output).to.match(new RegExp(`"key":"${key}".*"disks":\\["${disk.id}"\\]`));

    // Alone on the data folder, while the service does not run.
    await stop();
    expectNamed(await obrazCommand('scrub'));
    await start();

    // The same data once more repairs it, for all of them.
    await imported(shared);
    const mended = await obrazCommand('scrub');
    expect(mended.out).to.match(/damaged or missing: 0; touched by that: 0\n$/);
    expect(mended.status).to.equal(0);
    expect(await metric('obraz_scrub_damaged_objects{kind="chunks"}')).to.equal(0);
  });

  sampled('fails reads over NBD with an I/O error and counts them; what is whole is read on', async function () {
    requireQemuImg(this);
    const content = noise(8);
    const whole = content.subarray(0, chunkBytes);
    await imported(whole);
    let id = '';
    const key = await keyOfNewChunk(async () => (id = (await imported(content)).id));
    await flipBit(key);
    const before = await metric('obraz_corrupt_objects_total{kind="chunks"}').then((count) => count || 0);
    const { addresses } = await obraz.bootstrap();
    const socket = addresses.nbd_socket!;
    const target = `nbd+unix:///${id}?socket=${socket}`;
    const broken = await run('qemu-io', ['-r', '-f', 'raw', '-c', `read ${chunkBytes} ${chunkBytes}`, target]).catch(
      (error: { stdout: string; stderr: string }) => error,
    );
    expect(broken.stdout + broken.stderr).to.match(/Input\/output error/);
    const out = path.join(dataDirectory, 'read');
    await run('qemu-img', ['dd', '-f', 'raw', '-O', 'raw', 'bs=4M', 'count=1', `if=${target}`, `of=${out}`]);
    expect((await readFile(out)).equals(whole)).to.equal(true);
    await rm(out);
    expect(await metric('obraz_corrupt_objects_total{kind="chunks"}')).to.be.greaterThan(before);
  });

  sampled('names what a missing object touches', async () => {
    const shared = noise(4);
    let id = '';
    const key = await keyOfNewChunk(async () => (id = (await imported(shared)).id));
    const file = path.join(blobs(), key);
    await rename(file, path.join(dataDirectory, 'kept'));
    const ended = await obrazCommand('scrub');
    expect(ended.status).to.equal(3);
    expect(ended.out).to.include(`${key}: it is missing\n  image ${id}\n`);
    await rename(path.join(dataDirectory, 'kept'), file);
    expect(touched(await obrazCommand('scrub'), key)).to.deep.equal([]);
  });

  describe('and optimized images', () => {
    const damagedImage = async () => {
      const content = noise(8);
      await imported(content.subarray(0, chunkBytes));
      let id = '';
      const key = await keyOfNewChunk(async () => (id = (await imported(content)).id));
      await flipBit(key);
      return { id, key };
    };

    const pooledRows = () => rows(database.url, 'select id from images where pooled');

    for (const kind of ['image', 'disk', 'snapshot'] as const)
      sampled(`does not become READY from a damaged ${kind}, and says why`, async () => {
        const { id, key } = await damagedImage();
        let source: Parameters<typeof failed>[0]['source'] = imageId(id);
        if (kind !== 'image') {
          const disk = await client.disk({ source: imageId(id), size: BigInt(64 * MiB) });
          source = { $case: 'diskId', value: disk.id };
          if (kind === 'snapshot') source = { $case: 'snapshotId', value: (await client.snapshot({ diskId: disk.id })).id };
        }
        const error = await failed({ name: `pooled-${kind}`, pooled: true, source });
        expect(error.code).to.equal(status.DATA_LOSS);
        expect(error.message)
          .to.include(path.basename(key))
          .and.to.match(/^stored data cannot be read: chunk \w+ is damaged: /);
        expect(await pooledRows()).to.deep.equal([]);
      });

    sampled('does not become READY by an import that relies on a damaged chunk that nobody has read yet', async () => {
      const content = noise(4);
      const key = await keyOfNewChunk(() => imported(content));
      await flipBit(key);
      const error = await (async () => {
        await using web = await startWebServer({ content });
        return await failed({ pooled: true, source: uri(web.url()) });
      })();
      expect(error.code).to.equal(status.DATA_LOSS);
      expect(await pooledRows()).to.deep.equal([]);
      // The failure has marked the chunk: the next import writes it anew.
      await using web = await startWebServer({ content });
      const image = await client.import({ pooled: true, source: uri(web.url()) });
      expect(image.pooled).to.equal(true);
      await client.wait(await client.deleteImage(image.id));
    });
  });
});
