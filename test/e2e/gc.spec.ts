// Garbage collection through the real service: what is given up or deleted leaves no bytes behind, and what is in use stays whole.
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { ObrazClient } from '../support/client.ts';
import { command } from '../support/command.ts';
import { randomFrom, sampledIt, testSeed } from '../support/sample.ts';
import { Obraz } from '../support/obraz.ts';
import { Program } from '../support/programs.ts';
import { removeDataFolder, type TestDatabase, testDatabase } from '../support/postgres.ts';
import { rows } from '../support/slow-import.ts';
import { blobDirectoryOf, openStoredImage, storedObjects } from '../support/stored-image.ts';
import { startWebServer } from '../support/web-server.ts';

const MiB = 1024 * 1024;
const uri = (value: string) => ({ $case: 'uri', value }) as const;

/** google.rpc.Code. */
const cancelledCode = 1;

/** Collects until it has condemned something and is about to delete it; then stops itself, once. */
const stoppingCollector = `
  import { setTimeout as sleep } from 'node:timers/promises';
  import { CollectorSession } from '$src/gc/collector-session.ts';
  import { PostgresLedger } from '$src/gc/postgres-ledger.ts';
  import { collectGarbage } from '$src/storage/gc.ts';
  import { openStorage } from '$src/storage/open.ts';

  const [url, directory, place] = process.argv.slice(1);
  const { blobs, layers } = await openStorage({ directory });
  let session;
  while ((session = await CollectorSession.open(url)) === undefined) await sleep(50);
  console.log('collects alone');
  let hasStopped = false;
  async function stopAt(here) {
    if (here !== place || hasStopped) return;
    hasStopped = true;
    console.log('stops itself');
    process.kill(process.pid, 'SIGSTOP');
    await sleep(20);
  }
  class Ledger extends PostgresLedger {
    async claim(condemned, signal) {
      await stopAt('before it claims');
      const claim = await super.claim(condemned, signal);
      await stopAt('when it has claimed');
      return claim;
    }
  }
  const stopping = {
    list: (prefix) => blobs.list(prefix),
    stat: (key) => blobs.stat(key),
    get: (...call) => blobs.get(...call),
    put: (...call) => blobs.put(...call),
    async delete(key) {
      await stopAt('when it is about to delete');
      await blobs.delete(key);
    },
  };
  const ledger = new Ledger(session);
  const collect = () =>
    collectGarbage({ blobs: stopping, layers, ledger }).catch((error) => {
      // It may doubt its session after a long stop; then nothing was deleted, and a later run is to try again.
      if (error.name !== 'TransientError') throw error;
    });
  while (!hasStopped) {
    await collect();
    await sleep(50);
  }
  await collect();
  await session[Symbol.asyncDispose]();
  console.log('has ended');
  process.exit();
`;

const sampled = sampledIt({ of: 3 });

describe(`garbage collection end to end (OBRAZ_TEST_SEED=${testSeed})`, function () {
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
  });

  after(async () => {
    await stop();
    await removeDataFolder(dataDirectory);
    await database?.dispose();
  });

  const noise = (mebibytes: number): Buffer => {
    const bytes = Buffer.alloc(mebibytes * MiB);
    for (let at = 0; at < bytes.length; at += 64) bytes.writeUInt32LE(random() * 2 ** 32, at);
    return bytes;
  };

  const stored = (): Promise<string[]> => storedObjects(blobDirectoryOf(dataDirectory));

  async function eventually(condition: () => Promise<boolean>, what: string, limitMs = 90_000): Promise<void> {
    const deadline = Date.now() + limitMs;
    while (!(await condition())) {
      if (Date.now() > deadline) throw new Error(`not within ${limitMs} ms: ${what}\n${obraz.output}`);
      await sleep(50);
    }
  }

  const imported = async (content: Buffer) => {
    await using web = await startWebServer({ content });
    // Awaited here: the server is there only inside this function.
    return await client.import({ source: uri(web.url()) });
  };

  const expectBytes = async (imageId: string, content: Buffer) => {
    await using source = await openStoredImage(database.url, blobDirectoryOf(dataDirectory), imageId);
    const bytes = Buffer.alloc(content.length);
    await source.read(bytes, 0);
    expect(bytes.equals(content)).to.equal(true);
  };

  /** Of the command, whether the service runs or not. */
  const gc = async (...options: string[]): Promise<string> => {
    const ended = await command({ dataDirectory, environment: { DATABASE_URL: database.url } }, 'gc', ...options);
    expect(ended).to.include({ status: 0, err: '' });
    return ended.out;
  };

  const metric = async (name: string): Promise<number> => {
    const { addresses } = await obraz.bootstrap();
    const text = await (await fetch(`http://${addresses.http}/metrics`)).text();
    return Number(new RegExp(`^${name} (.+)$`, 'm').exec(text)?.[1]);
  };

  sampled(
    'leaves nothing of an import that was cancelled or failed half-way, within seconds, and other images whole',
    async () => {
      const kept = noise(20);
      const image = await imported(kept);
      const before = await stored();
      expect(before.length).to.equal(7);
      // What it shares with the image stays.
      const content = Buffer.concat([kept.subarray(0, 8 * MiB), noise(120)]);
      for (const ending of ['cancelled', 'failed']) {
        await using web = await startWebServer({ content, behaviour: { trickle: { bytes: 256 * 1024, everyMs: 20 } } });
        const operation = await client.createImage({ source: uri(web.url()) });
        await eventually(async () => (await stored()).length >= before.length + 3, 'chunks of the import in the store');
        if (ending === 'cancelled') await client.cancel(operation.id);
        else web.behave({ status: 404 });
        const done = await client.wait(operation, 60_000);
        const code: number | undefined = done.result?.$case === 'error' ? done.result.value.code : undefined;
        expect(code === cancelledCode).to.equal(ending === 'cancelled');
        await eventually(async () => (await stored()).join() === before.join(), 'the store is as before');
        await expectBytes(image.id, kept);
      }
      // The bytes go first, then what is remembered of them.
      await eventually(
        async () => (await rows(database.url, 'select key from condemned_objects')).length === 0,
        'nothing is condemned',
      );
    },
  );

  it('deletes what only a deleted image used, by itself, soon after the delete', async () => {
    const shared = noise(8);
    const kept = Buffer.concat([shared, noise(4)]);
    const keptImage = await imported(kept);
    const before = await stored();
    const other = await imported(Buffer.concat([shared, noise(12)]));
    expect((await stored()).length).to.equal(before.length + 5);
    await client.wait(await client.deleteImage(other.id));
    await eventually(async () => (await stored()).join() === before.join(), 'the store is as before');
    await expectBytes(keptImage.id, kept);
  });

  sampled('deletes by the command, and says beforehand how much that is, alone on the data folder', async () => {
    const before = await stored();
    const image = await imported(noise(12));
    await stop();
    const withBoth = await stored();
    expect(withBoth.length).to.equal(before.length + 5);
    await rows(database.url, `delete from images where id = '${image.id}'`);
    expect(await gc('--dry-run')).to.match(/newly unused: 5 \(\d+ bytes\); would be deleted now: 0/);
    expect(await stored()).to.deep.equal(withBoth);
    expect(await gc()).to.match(/newly unused: 5 \(\d+ bytes\); deleted: 5; waiting for what is being written to end: 0/);
    expect(await stored()).to.deep.equal(before);
    await start();
  });

  sampled('deletes by the command through the service that runs, and counts it in the metrics', async () => {
    const before = await stored();
    const image = await imported(noise(8));
    await rows(database.url, `delete from images where id = '${image.id}'`);
    expect(await gc('--dry-run')).to.match(/newly unused: 4 \(\d+ bytes\); would be deleted now: 0/);
    expect(await gc()).to.match(/newly unused: 4 \(\d+ bytes\); deleted: 4; waiting for what is being written to end: 0/);
    expect(await stored()).to.deep.equal(before);
    expect(await metric('obraz_gc_deleted_objects_total')).to.be.at.least(4);
    expect(await metric('obraz_gc_missing_objects')).to.equal(0);
  });

  sampled('takes back what an import uses between the condemnation and the delete', async () => {
    const content = noise(16);
    const first = await imported(content);
    // An import that runs all the time: what is condemned meanwhile waits for its end.
    await using slow = await startWebServer({ content: noise(4), behaviour: { trickle: { bytes: 4096, everyMs: 200 } } });
    const running = await client.createImage({ source: uri(slow.url()) });
    await eventually(
      async () => (await rows(database.url, 'select 1 from jobs where lease_until > now()')).length === 1,
      'it runs',
    );
    await client.wait(await client.deleteImage(first.id));
    // An import that fails brings a run soon.
    await using missing = await startWebServer({ content, behaviour: { status: 404 } });
    await client.wait(await client.createImage({ source: uri(missing.url()) }));
    const condemned = async () => (await rows(database.url, `select key from condemned_objects where writers <> '{}'`)).length;
    await eventually(async () => (await condemned()) >= 6, 'the chunks and pages of the deleted image are condemned');
    const again = await imported(content);
    await eventually(async () => (await condemned()) === 0, 'the import took all of it back');
    await client.cancel(running.id);
    await client.wait(running);
    await stop();
    await gc();
    await expectBytes(again.id, content);
    await start();
  });

  // A collector of another process, which stops itself (SIGSTOP) at a place between marking and deleting. Meanwhile an import stores the
  // very data that is condemned.
  for (const place of ['before it claims', 'when it has claimed', 'when it is about to delete'] as const)
    sampled(
      `loses nothing when a collector is stopped ${place}, and goes on after an import has relied on what is condemned`,
      async () => {
        const content = noise(12);
        const first = await imported(content);
        await using collector = new Program(stoppingCollector, [database.url, blobDirectoryOf(dataDirectory), place]);
        await collector.says('collects alone');
        await client.wait(await client.deleteImage(first.id));
        await collector.says('stops itself');
        await using web = await startWebServer({ content });
        const operation = await client.createImage({ source: uri(web.url()) });
        if (place === 'before it claims') await client.image(operation);
        else {
          // Long enough for the import to come to what is claimed: it waits there.
          await eventually(
            async () => (await rows(database.url, 'select 1 from jobs where lease_until > now()')).length === 1,
            'it runs',
          );
          await sleep(1_000);
          expect((await client.getOperation(operation.id)).done).to.equal(false);
        }
        collector.child.kill('SIGCONT');
        const again = await client.image(operation);
        await collector.says('has ended');
        await expectBytes(again.id, content);
        await collector.exited;
        await gc();
        await expectBytes(again.id, content);
      },
    );
});
