// Garbage collection through the real service: what is given up or deleted leaves no bytes behind, and what is in use stays whole.
import { execFile } from 'node:child_process';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { ObrazClient } from '../support/client.ts';
import { randomFrom, testSeed } from '../support/images.ts';
import { Obraz } from '../support/obraz.ts';
import { removeDataFolder, type TestDatabase, testDatabase } from '../support/postgres.ts';
import { rows } from '../support/slow-import.ts';
import { blobDirectoryOf, openStoredImage, storedObjects } from '../support/stored-image.ts';
import { startWebServer } from '../support/web-server.ts';

const MiB = 1024 * 1024;
const uri = (value: string) => ({ $case: 'uri', value }) as const;
const run = promisify(execFile);

/** google.rpc.Code. */
const cancelledCode = 1;

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

  /** Of the command, while the service does not run. */
  const gc = async (...options: string[]): Promise<string> => {
    const environment = { ...process.env, OBRAZ_DATA_DIR: dataDirectory, DATABASE_URL: database.url };
    const { stdout } = await run(process.execPath, ['src/main.ts', 'gc', ...options], { env: environment, timeout: 60_000 });
    return stdout;
  };

  it('leaves nothing of an import that was cancelled or failed half-way, within seconds, and other images whole', async () => {
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
    expect(await rows(database.url, 'select key from condemned_objects')).to.deep.equal([]);
  });

  it('deletes what only a deleted image used, by the command, and says beforehand how much that is', async () => {
    const shared = noise(8);
    const kept = Buffer.concat([shared, noise(4)]);
    const keptImage = await imported(kept);
    const before = await stored();
    const other = await imported(Buffer.concat([shared, noise(12)]));
    await client.wait(await client.deleteImage(other.id));
    await stop();
    const withBoth = await stored();
    expect(withBoth.length).to.equal(before.length + 5);
    expect(await gc('--dry-run')).to.match(/newly unused: 5 \(\d+ bytes\); would be deleted now: 0/);
    expect(await stored()).to.deep.equal(withBoth);
    expect(await gc()).to.match(/newly unused: 5 \(\d+ bytes\); deleted: 5; waiting for what is being written to end: 0/);
    expect(await stored()).to.deep.equal(before);
    await expectBytes(keptImage.id, kept);
    await start();
  });

  it('takes back what an import uses between the condemnation and the delete', async () => {
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
});
