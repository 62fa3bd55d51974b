// Limits under races of two processes, and imports that are refused for their size: with nothing stored.
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { ObrazClient, imageIdOf } from '../support/client.ts';
import { Obraz } from '../support/obraz.ts';
import { removeDataFolder, type TestDatabase, testDatabase } from '../support/postgres.ts';
import { QuotaClient, quotaFailureIn, quotaFailureOf } from '../support/quota-client.ts';
import { isLongRun } from '../support/sample.ts';
import { rows } from '../support/slow-import.ts';
import { storedKeys } from '../support/model/stored-keys.ts';
import { type Behaviour, startWebServer } from '../support/web-server.ts';

const MiB = 1024 * 1024;
const creates = isLongRun ? 200 : 80;

describe('quotas of two processes', function () {
  this.timeout(180_000);
  const cleanUp = new AsyncDisposableStack();
  let database: TestDatabase;
  let blobDirectory: string;
  let clients: [ObrazClient, ObrazClient];
  let quotas: QuotaClient;

  before(async () => {
    database = cleanUp.adopt(await testDatabase(), (each) => each.dispose());
    blobDirectory = cleanUp.adopt(await mkdtemp(path.join(tmpdir(), 'obraz-quotas-')), removeDataFolder);
    const environment = { DATABASE_URL: database.url, OBRAZ_BLOB_DIR: blobDirectory, OBRAZ_IMPORT_THREADS: '1' };
    const start = async () => cleanUp.use(await Obraz.start({ environment, limits: 'as set' }));
    const [one, other] = await Promise.all([start(), start()]);
    clients = [cleanUp.use(await ObrazClient.of(one)), cleanUp.use(await ObrazClient.of(other))];
    quotas = cleanUp.use(await QuotaClient.of(one, clients[0]));
  });

  after(() => cleanUp.disposeAsync());

  const content = Buffer.alloc(64 * MiB, 'not a chunk of zeros');
  const digest = '#sha256=51ad61f4ae3fc9a5bf1eb2ba2d5ef75a4a1fd5bb5a1d3ac5d40c7ea4a1a9b8a2';
  const servers: [string, Behaviour, string][] = [
    ['in ranges', {}, ''],
    ['once through', { ranges: 'ignored' }, ''],
    ['once through for its digest', {}, digest],
  ];
  for (const [how, behaviour, fragment] of servers)
    it(`refuses an import that is read ${how} before a chunk of it is stored`, async function () {
      const limit = 48 * MiB;
      await quotas.setLimit('compute.images.size', limit);
      await using web = await startWebServer({ content, behaviour });
      const operation = await clients[0].createImage({ source: { $case: 'uri', value: web.url() + fragment } });
      const done = await clients[0].wait(operation);
      if (done.result?.$case !== 'error') throw new Error('it succeeded');
      expect(done.result.value).to.include({ code: status.RESOURCE_EXHAUSTED, message: 'Limit compute.images.size exceeded' });
      const violation = quotaFailureIn(done.result.value);
      expect(violation).to.include({ quotaId: 'compute.images.size', quotaValue: BigInt(limit) });
      expect(violation.description).to.include(`0 of ${limit} in use`);
      expect(await storedKeys(blobDirectory)).to.deep.equal([]);
      expect(await rows(database.url, 'select id from images')).to.deep.equal([]);
      expect(await quotas.usages()).to.include({ 'compute.images.size': 0, 'compute.images.count': 0 });
      // Nor read, but for its head.
      expect(web.bytesSent).to.be.lessThan(content.length);
    });

  it(`lets through exactly as many of ${creates} images and ${creates} disks at once as there is room for`, async () => {
    await quotas.setLimit('compute.images.size', 1000 * MiB);
    const disk = await clients[0].disk({ size: BigInt(8 * MiB) });
    const { id: imageId } = await clients[0].image(await clients[0].createImage({ source: { $case: 'diskId', value: disk.id } }));
    await quotas.setLimit('compute.images.count', 10);
    await quotas.setLimit('compute.disks.count', 10);
    await quotas.setLimit('compute.hddDisks.size', 10 * 8 * MiB);
    // Some are refused for their number, some for their size.
    const outcomes = await Promise.allSettled(
      Array.from({ length: 2 * creates }, (_, index) => {
        const client = clients[index % 2]!;
        return index % 4 < 2
          ? client.createImage({ source: { $case: 'imageId', value: imageId } })
          : client.createDisk({ size: BigInt((index % 8 < 4 ? 8 : 12) * MiB) });
      }),
    );
    for (const outcome of outcomes) if (outcome.status === 'rejected') quotaFailureOf(outcome.reason);
    const made = (parity: number) =>
      outcomes.filter(({ status: s }, index) => s === 'fulfilled' && index % 4 < 2 === (parity === 0));
    const usages = await quotas.usages();
    expect(usages['compute.images.count']).to.equal(10);
    expect(made(0).length).to.equal(9);
    expect(usages['compute.images.size']).to.equal(10 * 8 * MiB);
    expect(usages['compute.disks.count']).to.equal(made(1).length + 1);
    expect(usages['compute.hddDisks.size']).to.be.within(80 * MiB - 12 * MiB + 1, 80 * MiB);
    const [{ count, size }] = (await rows<{ count: number; size: number }>(
      database.url,
      'select count(*)::int as count, sum(size)::float8 as size from disks',
    )) as [{ count: number; size: number }];
    expect([count, size]).to.deep.equal([usages['compute.disks.count'], usages['compute.hddDisks.size']]);
  });

  it('lets 15 operations of a folder run at once, whoever begins them', async () => {
    await quotas.setLimit('compute.images.count', 1000);
    await using web = await startWebServer({ content, behaviour: { trickle: { bytes: 1024, everyMs: 50 } } });
    const create = (index: number) => clients[index % 2]!.createImage({ source: { $case: 'uri', value: web.url() } });
    const outcomes = await Promise.allSettled(Array.from({ length: 40 }, (_, index) => create(index)));
    const running = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
    expect(running.length).to.equal(15);
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') {
        expect(quotaFailureOf(outcome.reason).quotaId).to.equal('compute.runningOperations.count');
      }
    expect(await quotas.usages()).to.include({ 'compute.runningOperations.count': 15, 'compute.images.count': 25 });
    // Each that ends makes room, and deletes need none.
    const deleted = await clients[0].deleteImage(imageIdOf(running[0]!));
    await clients[1].wait(deleted);
    running.push(await create(0));
    await Promise.all(running.map(({ id }) => clients[1].cancel(id).catch(() => {})));
    for (const operation of running) await clients[0].wait(operation);
    expect(await quotas.usages()).to.include({ 'compute.runningOperations.count': 0, 'compute.images.count': 10 });
  });
});
