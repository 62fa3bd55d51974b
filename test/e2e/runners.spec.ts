// Two processes of the service on one database and one folder of image data.
import { mkdtemp, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { expect } from 'chai';
import type { Operation } from '../../generated/yandex/cloud/operation/operation.ts';
import { imageIdOf, ObrazClient } from '../support/client.ts';
import { requireQemuImg } from '../support/images.ts';
import { isLongRun, randomFrom, sampledIt, testSeed } from '../support/sample.ts';
import { Obraz } from '../support/obraz.ts';
import { removeDataFolder, type TestDatabase, testDatabase } from '../support/postgres.ts';
import {
  expectWhole,
  type JobRow,
  jobRow,
  makeSlowImage,
  oneThread,
  rows,
  serveSlowly,
  type SlowImage,
} from '../support/slow-import.ts';
import { startWebServer } from '../support/web-server.ts';

const MiB = 1024 * 1024;
const dataBytes = (isLongRun ? 200 : 48) * MiB;
const importMs = (dataBytes / MiB) * 80;

const sampled = sampledIt({ of: 3 });

describe(`two processes on one database (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(180_000);
  const random = randomFrom(testSeed);
  const cleanUp = new AsyncDisposableStack();
  let database: TestDatabase;
  let blobDirectory: string;
  let image: SlowImage;
  let processes: [Process, Process];

  interface Process {
    obraz: Obraz;
    client: ObrazClient;
  }

  const start = async (environment: Record<string, string> = {}): Promise<Process> => {
    const obraz = cleanUp.use(
      await Obraz.start({
        environment: { ...oneThread, DATABASE_URL: database.url, OBRAZ_BLOB_DIR: blobDirectory, ...environment },
      }),
    );
    return { obraz, client: cleanUp.use(await ObrazClient.of(obraz)) };
  };

  before(async function () {
    requireQemuImg(this);
    image = cleanUp.use(await makeSlowImage(dataBytes));
    database = cleanUp.adopt(await testDatabase(), (each) => each.dispose());
    blobDirectory = cleanUp.adopt(await mkdtemp(path.join(tmpdir(), 'obraz-runners-')), removeDataFolder);
    // Both at once: they race for the first migration, the bootstrap and the keys.
    processes = await Promise.all([start(), start()]);
  });

  after(() => cleanUp.disposeAsync());

  const create = (client: ObrazClient, uri: string): Promise<Operation> =>
    client.createImage({ source: { $case: 'uri', value: uri } });

  /** Waits until a process has the job and `isEnough` of it. */
  const jobWhen = async (operation: Operation, isEnough: (job: JobRow) => boolean): Promise<JobRow> => {
    for (const deadline = Date.now() + 60_000; Date.now() < deadline; await sleep(20)) {
      const job = await jobRow(database.url, operation.id);
      if (job === undefined) throw new Error('the import ended too soon');
      if (isEnough(job)) return job;
    }
    throw new Error('the job did not come so far within a minute');
  };

  /** The process that has the job, and the other one: owners are named by process id. */
  const ownerFirst = ({ owner }: JobRow): [Process, Process] =>
    owner!.startsWith(`${processes[0].obraz.child.pid}-`) ? processes : [processes[1], processes[0]];

  /** What lies in the store. */
  const objects = async (): Promise<string[]> =>
    (await readdir(blobDirectory, { recursive: true, withFileTypes: true })).flatMap((entry) =>
      entry.isFile() ? [path.join(entry.parentPath, entry.name)] : [],
    );

  const everything = (operation: Operation) =>
    rows(
      database.url,
      'select to_jsonb(images) as image, to_jsonb(operations) as operation from images, operations where images.id = $1 and operations.id = $2',
      [imageIdOf(operation), operation.id],
    );

  it('makes one cloud, one folder and one service account, whoever starts first', async () => {
    const [one, other] = await Promise.all(processes.map(({ obraz }) => obraz.bootstrap()));
    const ids = ({ cloud_id, folder_id, service_account_id }: typeof one & object) => ({
      cloud_id,
      folder_id,
      service_account_id,
    });
    expect(ids(one!)).to.deep.equal(ids(other!));
  });

  sampled('accepts the tokens of the other process, and shows what it made at once', async () => {
    const [one, other] = processes;
    const { addresses, folder_id: folderId } = await other.obraz.bootstrap();
    using client = new ObrazClient(addresses.grpc, await one.obraz.token(), folderId);
    await using web = await startWebServer({ content: Buffer.alloc(4 * MiB, 'tokens') });
    const operation = await create(one.client, web.url());
    const made = await client.image(await client.getOperation(operation.id));
    expect(await other.client.getImage(made.id)).to.deep.equal(await one.client.getImage(made.id));
  });

  sampled('cancels through one process what the other one runs', async () => {
    await using web = await serveSlowly(image);
    const operation = await create(processes[0].client, web.url());
    const [, other] = ownerFirst(await jobWhen(operation, ({ leased }) => leased));
    const done = await other.client.wait(await other.client.cancel(operation.id), 60_000);
    expect(done.result?.$case === 'error' && done.result.value.code).to.equal(status.CANCELLED);
  });

  sampled('carries out each of many operations once, over both', async () => {
    await using web = await startWebServer({ content: Buffer.alloc(4 * MiB, 'many') });
    const source = await processes[0].client.import({ source: { $case: 'uri', value: web.url() } });
    const count = isLongRun ? 1_000 : 60;
    const copies = await Promise.all(
      Array.from({ length: count }, (_, index) =>
        processes[index % 2]!.client.import({ name: `many-${index}`, source: { $case: 'imageId', value: source.id } }),
      ),
    );
    // Deleting is a job: created by one process, run by either.
    const deletes = await Promise.all(
      copies.map(async ({ id }, index) => {
        const { client } = processes[(index + 1) % 2]!;
        return client.wait(await client.deleteImage(id), 120_000, 200);
      }),
    );
    expect(deletes.map(({ result }) => result?.$case)).to.deep.equal(Array.from({ length: count }, () => 'response'));
    expect(await rows(database.url, `select id from images where name like 'many-%'`)).to.deep.equal([]);
    const finished = await rows<{ count: number }>(
      database.url,
      `select count(*)::int as count from operations where description = 'Delete image' and id = any($1)`,
      [deletes.map(({ id }) => id)],
    );
    expect(finished).to.deep.equal([{ count }]);
    expect(await rows(database.url, 'select operation_id from jobs')).to.deep.equal([]);
  });

  const stopAfterMs = Array.from({ length: isLongRun ? 4 : 1 }, () => Math.round(random() * importMs * 0.8));
  for (const [index, afterMs] of stopAfterMs.entries()) {
    it(`takes over from a process that is stopped after ${afterMs} ms for longer than its lease, which changes nothing later`, async () => {
      await using web = await serveSlowly(image);
      const operation = await create(processes[index % 2]!.client, web.url());
      const held = await jobWhen(operation, ({ leased }) => leased);
      const [frozen, other] = ownerFirst(held);
      await sleep(afterMs);
      frozen.obraz.child.kill('SIGSTOP');
      try {
        const job = await jobRow(database.url, operation.id);
        expect(job, 'the import ended before it could be stopped').to.include({ owner: held.owner, attempt: 1 });
        web.behave({});
        const done = await other.client.image(await other.client.getOperation(operation.id), 60_000);
        expect(done).to.include({ id: imageIdOf(operation), status: 2 });
      } finally {
        frozen.obraz.child.kill('SIGCONT');
      }
      const before = await everything(operation);
      expect(before).to.have.length(1);
      // It finds out by itself; its handler has ended when it says so.
      for (const deadline = Date.now() + 30_000; !lostJob(frozen.obraz, operation) && Date.now() < deadline;) await sleep(50);
      expect(lostJob(frozen.obraz, operation), frozen.obraz.output.slice(-2_000)).to.equal(true);
      expect(await everything(operation)).to.deep.equal(before);
      await expectWhole(database.url, blobDirectory, imageIdOf(operation), image.rawPath);
      // And it works on.
      expect((await frozen.client.getOperation(operation.id)).done).to.equal(true);
    });
  }

  sampled('ends with a clear message when its image data would lie in another folder', async () => {
    const obraz = await Obraz.spawn({ environment: { DATABASE_URL: database.url } });
    try {
      const { code } = await obraz.exited;
      expect(code).to.equal(1);
      expect(obraz.output).to.match(/obraz: the image data of this database is not in .*OBRAZ_BLOB_DIR/);
      // The disk that belongs there may just not be mounted: nothing is made in its place.
      expect(await readdir(obraz.dataDirectory)).not.to.include('blobs');
    } finally {
      await obraz[Symbol.asyncDispose]();
    }
  });

  sampled('runs nothing in a process whose only role is the API, and collects soon what that one deletes', async () => {
    await using web = await startWebServer({ content: Buffer.alloc(4 * MiB, 'roles') });
    const api = await start({ OBRAZ_ROLES: 'api' });
    const before = new Set(await objects());
    const added = async () => (await objects()).filter((each) => !before.has(each));
    const operation = await create(api.client, web.url());
    const done = await api.client.image(operation);
    expect(done.status).to.equal(2);
    expect(await added()).not.to.deep.equal([]);
    // Its deletes are collected elsewhere, soon all the same.
    await api.client.wait(await api.client.deleteImage(done.id));
    for (const deadline = Date.now() + 30_000; Date.now() < deadline && (await added()).length > 0;) await sleep(50);
    expect(await added()).to.deep.equal([]);
    await api.obraz.stop();
    expect(api.obraz.output).not.to.match(/job ended/);
  });
});

/** Whether the process has said that another attempt has the job. */
const lostJob = (obraz: Obraz, operation: Operation): boolean =>
  obraz.output.split('\n').some((line) => line.includes(operation.id) && line.includes('job lost to another attempt'));
