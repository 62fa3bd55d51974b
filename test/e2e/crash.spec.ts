// What is left after the service was killed, stopped or told to cancel in the midst of an import, at moments that nobody chose.
import { mkdtemp, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { expect } from 'chai';
import type { Operation } from '../../generated/yandex/cloud/operation/operation.ts';
import { startEmbeddedPostgres } from '../../src/db/embedded/embedded-postgres.ts';
import { imageIdOf, ObrazClient } from '../support/client.ts';
import { requireQemuImg } from '../support/images.ts';
import { isLongRun, randomFrom, sampleOf, sampledIt, testSeed } from '../support/sample.ts';
import { Obraz } from '../support/obraz.ts';
import { removeDataFolder, type TestDatabase, testDatabase } from '../support/postgres.ts';
import {
  connectionsPerThread,
  endLeases,
  expectWhole,
  jobRow,
  logSent,
  makeSlowImage,
  oneThread,
  rows,
  slowly,
  serveSlowly,
  type SlowFormat,
  slowFormats,
  type SlowImage,
} from '../support/slow-import.ts';
import { blobDirectoryOf } from '../support/stored-image.ts';
import { type Behaviour, startWebServer } from '../support/web-server.ts';

const MiB = 1024 * 1024;
const chunkBytes = 4 * MiB;
const dataBytes = (isLongRun ? 128 : 64) * MiB;
/** An import of so many bytes of a file at the server's pace, about. */
const importMsOf = (fileBytes: number): number => (fileBytes / MiB) * 80;
const importMs = importMsOf(dataBytes);

/** Tables, read anew by every attempt, and what a request takes along of its neighbours. */
const tableBytes = 3 * MiB;
/** The interval of checkpoints, and what a busy machine may add to it. */
const checkpointWindowMs = 2_000 + 4_000;

const sampled = sampledIt({ of: 3 });

describe(`crashes and stops in the midst of an import (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(180_000);
  const random = randomFrom(testSeed);
  let image: SlowImage;

  before(async function () {
    requireQemuImg(this);
    image = await makeSlowImage(dataBytes);
  });

  after(() => image?.[Symbol.asyncDispose]());

  const startOn = async (dataDirectory: string, database?: TestDatabase) => {
    const environment = { ...oneThread, ...(database === undefined ? {} : { DATABASE_URL: database.url }) };
    const obraz = await Obraz.start({ dataDirectory, environment });
    const client = await ObrazClient.of(obraz);
    return {
      obraz,
      client,
      async [Symbol.asyncDispose]() {
        client[Symbol.dispose]();
        await obraz[Symbol.asyncDispose]();
      },
    };
  };

  const withDatabase = (stack: AsyncDisposableStack): Promise<TestDatabase> =>
    testDatabase().then((database) => stack.adopt(database, (each) => each.dispose()));

  const withDataFolder = (stack: AsyncDisposableStack): Promise<string> =>
    mkdtemp(path.join(tmpdir(), 'obraz-crash-')).then((folder) => stack.adopt(folder, removeDataFolder));

  const create = (client: ObrazClient, uri: string): Promise<Operation> =>
    client.createImage({ name: 'crashed', source: { $case: 'uri', value: uri } });

  /** Waits until an attempt has left a checkpoint, and answers it. */
  const checkpointOf = async (database: TestDatabase, operation: Operation): Promise<number> => {
    for (const deadline = Date.now() + 60_000; Date.now() < deadline; await sleep(20)) {
      const job = await jobRow(database.url, operation.id);
      if (job === undefined) throw new Error('the import ended before its first checkpoint');
      if (job.next_index !== null) return job.next_index;
    }
    throw new Error('there was no checkpoint within a minute');
  };

  const formats = Object.keys(slowFormats) as SlowFormat[];
  const killed: SlowFormat[] = isLongRun ? [...formats, ...sampleOf(formats, 5, testSeed)] : sampleOf(formats, 1, testSeed);
  for (const [index, format] of killed.entries()) {
    it(`ends READY and equal after kill -9 in the midst of ${format}, and fetches nothing again that a checkpoint holds`, async () => {
      await using stack = new AsyncDisposableStack();
      const disk = stack.use(await makeSlowImage(dataBytes, format));
      const killAfterMs = Math.round(random() * importMsOf(disk.content.length));
      const database = await withDatabase(stack);
      const dataDirectory = await withDataFolder(stack);
      const web = stack.use(await serveSlowly(disk));
      const sent = stack.use(logSent(web));

      const first = stack.use(await startOn(dataDirectory, database));
      const operation = await create(first.client, web.url());
      await sleep(killAfterMs);
      await first.obraz.kill();
      const lost = sent.within(checkpointWindowMs);
      const checkpoint = await jobRow(database.url, operation.id);
      const requestCount = web.requests.length;
      const bytesBefore = web.bytesSent;
      web.behave({});

      console.log(`      killed after ${killAfterMs} ms, at chunk ${checkpoint?.next_index ?? 'none'}`);
      const second = stack.use(await startOn(dataDirectory, database));
      // Every third waits for its lease to end, as it is in life.
      if (index % 3 > 0 || !isLongRun) await endLeases(database.url);
      const done = await second.client.image(await second.client.getOperation(operation.id));
      expect(done).to.include({ id: imageIdOf(operation), name: 'crashed', status: 2 });
      await expectWhole(database.url, blobDirectoryOf(dataDirectory), done.id, disk.rawPath);

      if (checkpoint === undefined) return;
      const later = web.requests.slice(requestCount).map(({ range }) => range);
      expect(disk.bytesBelow(checkpoint.next_index ?? 0, later)).to.be.at.most(tableBytes);
      const twice = web.bytesSent - disk.content.length;
      const inFlight = connectionsPerThread * chunkBytes;
      expect(twice, `${bytesBefore} sent before`).to.be.at.most(lost + inFlight + tableBytes);
    });
  }

  for (let index = 0; index < (isLongRun ? 4 : 1); index += 1) {
    const killAfterMs = Math.round(random() * importMs);
    sampled(`does so with its own PostgreSQL, which outlives it, killed at ${killAfterMs} ms`, async () => {
      await using stack = new AsyncDisposableStack();
      const dataDirectory = await withDataFolder(stack);
      const web = stack.use(await serveSlowly(image));
      const first = stack.use(await startOn(dataDirectory));
      const operation = await create(first.client, web.url());
      await sleep(killAfterMs);
      await first.obraz.kill();
      web.behave({});

      const second = stack.use(await startOn(dataDirectory));
      const done = await second.client.image(await second.client.getOperation(operation.id));
      expect(done).to.include({ id: imageIdOf(operation), status: 2 });
      expect(await second.obraz.stop()).to.deep.equal({ code: 0, signal: null });

      const postgres = stack.use(await startEmbeddedPostgres({ dataDir: dataDirectory, durable: false }));
      await expectWhole(postgres.url, blobDirectoryOf(dataDirectory), done.id, image.rawPath);
    });
  }

  const unprovable: [what: string, behaviour: Behaviour, reason: string][] = [
    ['has no ranges', { ranges: 'ignored' }, 'the server has no ranges'],
    [
      'says nothing of its version',
      { etag: null, lastModified: null },
      'the server tells the version of the file by no strong ETag',
    ],
    [
      'has a weak validator only',
      { etag: 'W/"v1"', lastModified: null },
      'the server tells the version of the file by no strong ETag',
    ],
  ];
  for (const [what, behaviour, reason] of isLongRun ? unprovable : [unprovable[Math.floor(random() * 3)]!]) {
    sampled(`begins anew after kill -9 when the server ${what}, and ends READY`, async () => {
      await using stack = new AsyncDisposableStack();
      const database = await withDatabase(stack);
      const dataDirectory = await withDataFolder(stack);
      const web = stack.use(await serveSlowly(image, { ...behaviour, trickle: { bytes: 256 * 1024, everyMs: 20 } }));
      const first = stack.use(await startOn(dataDirectory, database));
      const operation = await create(first.client, web.url());
      while (web.bytesSent < image.content.length / 2) await sleep(20);
      await first.obraz.kill();
      expect(await jobRow(database.url, operation.id)).to.deep.include({ next_index: null });
      const bytesBefore = web.bytesSent;
      web.behave(behaviour);

      const second = stack.use(await startOn(dataDirectory, database));
      await endLeases(database.url);
      const done = await second.client.image(await second.client.getOperation(operation.id));
      await expectWhole(database.url, blobDirectoryOf(dataDirectory), done.id, image.rawPath);
      expect(web.bytesSent - bytesBefore).to.be.at.least(image.content.length - tableBytes);
      const said = second.obraz.output.split('\n').find((line) => line.includes('the import begins anew'));
      expect(said).to.contain(`"reason":"${reason}`);
    });
  }

  const broken: SlowFormat[] = isLongRun ? formats : sampleOf(formats, 1, testSeed + 1);
  for (const format of broken) {
    sampled(`bears connections that break at random moments of ${format}, and fetches what is lost, no more`, async () => {
      await using stack = new AsyncDisposableStack();
      const disk = stack.use(await makeSlowImage(dataBytes, format));
      const database = await withDatabase(stack);
      const dataDirectory = await withDataFolder(stack);
      let breaks = 0;
      const breaking = (): Behaviour => {
        if (random() > 0.3) return {};
        breaks += 1;
        return { breakAfterBytes: Math.floor(random() ** 2 * 3 * MiB), breakBy: random() < 0.5 ? 'close' : 'reset' };
      };
      const web = stack.use(await startWebServer({ content: disk.content, behaviour: breaking }));
      const { client } = stack.use(await startOn(dataDirectory, database));
      const done = await client.image(await create(client, web.url()));
      await expectWhole(database.url, blobDirectoryOf(dataDirectory), done.id, disk.rawPath);
      // What a reset overtakes is lost on its way.
      const sentAgain = web.bytesSent - disk.content.length;
      console.log(
        `      ${breaks} of ${web.requests.length} answers were broken; ${sentAgain} bytes of ${disk.content.length} again`,
      );
      expect(sentAgain).to.be.at.most(tableBytes + breaks * MiB);
    });
  }

  sampled('gives the job back when it is stopped, and goes on from the checkpoint at the next start', async () => {
    await using stack = new AsyncDisposableStack();
    const database = await withDatabase(stack);
    const dataDirectory = await withDataFolder(stack);
    const web = stack.use(await serveSlowly(image));
    const first = stack.use(await startOn(dataDirectory, database));
    const operation = await create(first.client, web.url());
    await checkpointOf(database, operation);
    first.obraz.child.kill('SIGTERM');
    expect(await first.obraz.exited).to.deep.equal({ code: 0, signal: null });
    const given = (await jobRow(database.url, operation.id))!;
    expect(given).to.include({ attempt: 1, leased: false, owner: null });
    expect(given.next_index).to.be.a('number');
    const requestCount = web.requests.length;
    // What the checkpoint says was fetched: all of it, once.
    const fetched = web.requests.map(({ range }) => range);
    const held = image.bytesBelow(given.next_index!, [{ start: 0, end: image.content.length }]);
    expect(held).to.be.greaterThan(0);
    expect(image.bytesBelow(given.next_index!, fetched)).to.be.within(held, held + tableBytes);
    web.behave({});

    const second = stack.use(await startOn(dataDirectory, database));
    const done = await second.client.image(await second.client.getOperation(operation.id));
    await expectWhole(database.url, blobDirectoryOf(dataDirectory), done.id, image.rawPath);
    const later = web.requests.slice(requestCount).map(({ range }) => range);
    expect(image.bytesBelow(given.next_index!, later)).to.be.at.most(tableBytes);
  });

  sampled('ends CANCELLED at once whenever it is cancelled, without a row and with its name free', async () => {
    await using stack = new AsyncDisposableStack();
    const database = await withDatabase(stack);
    const dataDirectory = await withDataFolder(stack);
    const web = stack.use(await serveSlowly(image));
    const { client } = stack.use(await startOn(dataDirectory, database));
    const tookMs: number[] = [];
    for (let round = 0; round < (isLongRun ? 16 : 3); round += 1) {
      // Now and then a server without ranges: what is cancelled then is a download into a temporary file.
      web.behave(round % 4 === 3 ? { ...slowly, ranges: 'ignored' } : slowly);
      const cancelAfterMs = Math.floor(random() ** 3 * importMs * 0.7);
      // The name is the same every time: it must be free again.
      const operation = await create(client, web.url());
      await sleep(cancelAfterMs);
      const cancelledAt = performance.now();
      const cancelled = await client.wait(await client.cancel(operation.id), 60_000);
      tookMs.push(Math.round(performance.now() - cancelledAt));
      expect(cancelled.result, `cancelled after ${cancelAfterMs} ms`).to.deep.include({ $case: 'error' });
      expect(cancelled.result?.value).to.include({ code: status.CANCELLED });
      const gone = await client.getImage(imageIdOf(operation)).catch((error: { code: number }) => error.code);
      expect(gone).to.equal(status.NOT_FOUND);
      expect(await rows(database.url, 'select id from images union select operation_id from jobs')).to.deep.equal([]);
    }
    console.log(`      from Cancel to done: ${tookMs.join(', ')} ms`);
    // Nothing is left in the store, nor of temporary files.
    expect(await readdir(path.join(dataDirectory, 'spool'))).to.deep.equal([]);
    await eventuallyEmpty(blobDirectoryOf(dataDirectory));
    // No thread is stuck, and no connection is left.
    await using quick = await startWebServer({ content: image.content });
    const done = await client.image(await create(client, quick.url()));
    await expectWhole(database.url, blobDirectoryOf(dataDirectory), done.id, image.rawPath);
  });
});

/** Waits until garbage collection, which runs soon after something was given up, has deleted every chunk and page. */
async function eventuallyEmpty(blobDirectory: string): Promise<void> {
  let left: string[] = [];
  for (const deadline = Date.now() + 90_000; Date.now() < deadline; await sleep(100)) {
    left = [];
    for (const kind of ['chunks', 'pages']) {
      const files = await readdir(path.join(blobDirectory, kind), { recursive: true, withFileTypes: true }).catch(() => []);
      left.push(...files.filter((file) => file.isFile()).map(({ name }) => name));
    }
    if (left.length === 0) return;
  }
  expect(left).to.deep.equal([]);
}
