// Images, disks and snapshots share layers: what is made of another is there at once and stays whole whatever goes, and what nobody needs
// any more is given back. Through the real service, its store and its garbage collection.
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import type { Image } from '../../generated/yandex/cloud/compute/v1/image.ts';
import { collect } from '../../src/gc/collect.ts';
import { parsePageAddress } from '../../src/storage/address.ts';
import { openStorage } from '../../src/storage/open.ts';
import { ObrazClient } from '../support/client.ts';
import { randomFrom, testSeed } from '../support/sample.ts';
import { buildLargeLayer } from '../support/large-layer.ts';
import { Obraz } from '../support/obraz.ts';
import { removeDataFolder, type TestDatabase, testDatabase } from '../support/postgres.ts';
import { rows } from '../support/slow-import.ts';
import { blobDirectoryOf, openStored, storedObjects } from '../support/stored-image.ts';
import { startWebServer } from '../support/web-server.ts';

const MiB = 1024 ** 2;
const TiB = 1024 ** 4;

describe(`clones end to end (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(180_000);
  const random = randomFrom(testSeed);
  let database: TestDatabase;
  let dataDirectory: string;
  let obraz: Obraz;
  let client: ObrazClient;

  before(async () => {
    database = await testDatabase();
    dataDirectory = await mkdtemp(path.join(tmpdir(), 'obraz-e2e-'));
    obraz = await Obraz.start({ dataDirectory, environment: { DATABASE_URL: database.url } });
    client = await ObrazClient.of(obraz);
  });

  after(async () => {
    client?.[Symbol.dispose]();
    await obraz?.[Symbol.asyncDispose]();
    await removeDataFolder(dataDirectory);
    await database?.dispose();
  });

  const blobs = () => blobDirectoryOf(dataDirectory);

  const noise = (mebibytes: number): Buffer => {
    const bytes = Buffer.alloc(mebibytes * MiB);
    for (let at = 0; at < bytes.length; at += 64) bytes.writeUInt32LE(random() * 2 ** 32, at);
    return bytes;
  };

  const imported = async (content: Buffer): Promise<Image> => {
    await using web = await startWebServer({ content });
    return await client.import({ source: { $case: 'uri', value: web.url() } });
  };

  /** The bytes are `content`, and zeros behind it. */
  const expectBytes = async (table: 'images' | 'disks' | 'snapshots', id: string, content: Buffer) => {
    await using source = await openStored(database.url, blobs(), table, id);
    const bytes = Buffer.alloc(source.sizeBytes, 1);
    await source.read(bytes, 0);
    expect(bytes.subarray(0, content.length).equals(content), `${table} ${id}`).to.equal(true);
    expect(bytes.subarray(content.length).every((byte) => byte === 0)).to.equal(true);
  };

  /** Runs until nothing is left to delete; the service's own runs may come between. */
  const gc = async (): Promise<void> => {
    await using storage = await openStorage({ directory: blobs() });
    const deadline = Date.now() + 60_000;
    while (true) {
      const collected = await collect({ url: database.url, storage });
      if (collected !== undefined && collected.condemned === 0 && collected.pending === 0) return;
      if (Date.now() > deadline) throw new Error(`garbage is left: ${JSON.stringify(collected)}`);
      if (collected === undefined) await sleep(50);
    }
  };

  it('keep their bytes whichever of the others go, through every garbage collection, and leave nothing at the end', async () => {
    const content = noise(18);
    const image = await imported(content);
    const whole = await storedObjects(blobs());
    const disk = await client.disk({ source: { $case: 'imageId', value: image.id }, size: BigInt(40 * MiB) });
    await client.wait(await client.deleteImage(image.id));
    await gc();
    await expectBytes('disks', disk.id, content);

    const snapshot = await client.snapshot({ diskId: disk.id });
    const ofDisk = await client.import({ source: { $case: 'diskId', value: disk.id } });
    await client.wait(await client.deleteDisk(disk.id));
    await gc();
    await expectBytes('snapshots', snapshot.id, content);
    await expectBytes('images', ofDisk.id, content);
    expect([ofDisk.size, ofDisk.storageSize]).to.deep.equal([BigInt(40 * MiB), BigInt(20 * MiB)]);

    await client.wait(await client.deleteImage(ofDisk.id));
    const ofSnapshot = await client.disk({ source: { $case: 'snapshotId', value: snapshot.id } });
    await client.wait(await client.deleteSnapshot(snapshot.id));
    await gc();
    await expectBytes('disks', ofSnapshot.id, content);
    expect(await storedObjects(blobs())).to.deep.equal(whole);

    await client.wait(await client.deleteDisk(ofSnapshot.id));
    await gc();
    expect(await storedObjects(blobs())).to.deep.equal([]);
  });

  it('store nothing and read no more than a root, of an image of 4 TiB as of any other', async () => {
    const small = await imported(noise(4));
    const [{ root: smallRoot }] = (await rows(database.url, `select layer_root as root from images where id = $1`, [
      small.id,
    ])) as [{ root: string }];
    await using storage = await openStorage({ directory: blobs() });
    const layer = await storage.layers.open(parsePageAddress(smallRoot));
    const { root, entries } = await buildLargeLayer(storage.layers, [(await layer.lookup(0))!], 4 * TiB);
    expect(entries).to.equal(1_048_576);
    await rows(
      database.url,
      'update images set layer_root = $2, size = $3, storage_size = $3, min_disk_size = $3 where id = $1',
      [small.id, root, String(4 * TiB)],
    );
    const before = await storedObjects(blobs());
    const source = { $case: 'imageId', value: small.id } as const;
    const disk = await client.disk({ source, size: BigInt(4 * TiB) });
    const first = await client.snapshot({ diskId: disk.id });
    const second = await client.snapshot({ diskId: disk.id });
    expect([first.storageSize, second.storageSize]).to.deep.equal([BigInt(4 * TiB), 0n]);
    const image = await client.import({ source: { $case: 'snapshotId', value: first.id } });
    expect(image.storageSize).to.equal(BigInt(4 * TiB));
    await client.import({ source: { $case: 'diskId', value: disk.id } });
    await Promise.all(Array.from({ length: 50 }, () => client.disk({ source, size: BigInt(4 * TiB) })));
    expect(await storedObjects(blobs())).to.deep.equal(before);
    const [{ roots }] = (await rows(
      database.url,
      'select count(distinct layer_root)::int as roots from (select layer_root from disks union all select layer_root from snapshots) as rows',
    )) as [{ roots: number }];
    expect(roots).to.equal(1);
  });
});
