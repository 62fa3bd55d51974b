// Imports through the real service: images made by qemu-img, served over HTTP, read back through the layer and compared byte for byte.
import { stat } from 'node:fs/promises';
import { expect } from 'chai';
import { status } from '@grpc/grpc-js';
import { ObrazClient, imageIdOf } from '../support/client.ts';
import { firstDifference, rawOf, requireQemuImg } from '../support/images.ts';
import { isLongRun, sampleOf, testSeed } from '../support/sample.ts';
import { Obraz } from '../support/obraz.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import { type Qcow2Recipe, describeRecipe, makeQcow2, qcow2Matrix } from '../support/qcow2-recipes.ts';
import { blobDirectoryOf, openStoredImage } from '../support/stored-image.ts';
import { startWebServer } from '../support/web-server.ts';

const uri = (value: string) => ({ $case: 'uri', value }) as const;
const MiB = 1024 * 1024;

describe(`import end to end (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(300_000);
  let database: TestDatabase;
  let obraz: Obraz;
  let client: ObrazClient;

  before(async () => {
    database = await testDatabase();
    obraz = await Obraz.start({ environment: { DATABASE_URL: database.url } });
    client = await ObrazClient.of(obraz);
  });

  after(async () => {
    client?.[Symbol.dispose]();
    await obraz?.[Symbol.asyncDispose]();
    await database?.dispose();
  });

  const storedImage = (id: string) => openStoredImage(database.url, blobDirectoryOf(obraz.dataDirectory), id);

  describe('of images that qemu-img made', () => {
    before(function () {
      requireQemuImg(this);
    });

    const matrix = qcow2Matrix();
    const recipes: Qcow2Recipe[] = isLongRun ? sampleOf(matrix, 60, testSeed) : sampleOf(matrix, 4, testSeed);
    for (const recipe of recipes) {
      it(`stores the bytes that qemu-img reads: ${describeRecipe(recipe)}`, async () => {
        const file = await makeQcow2(recipe);
        await using web = await startWebServer({ content: { path: file } });
        const image = await client.import({ source: uri(web.url()) });
        await using raw = await rawOf(file, 'qcow2');
        await using stored = await storedImage(image.id);
        expect(Number(image.size)).to.equal((await stat(raw.path)).size);
        expect(await firstDifference(stored, raw.path)).to.equal(undefined);
      });
    }
  });

  it('stores a RAW image byte for byte, without its holes, and fills in every size', async () => {
    const content = Buffer.alloc(11 * MiB + 512);
    for (let index = 0; index < 100_000; index += 1) content[9 * MiB + index] = index % 251;
    await using web = await startWebServer({ content });
    const image = await client.import({
      name: 'raw-image',
      family: 'raws',
      description: 'd',
      labels: { a: 'b' },
      source: uri(web.url()),
    });
    expect(image).to.deep.include({
      name: 'raw-image',
      family: 'raws',
      description: 'd',
      labels: { a: 'b' },
      status: 2,
      pooled: false,
    });
    expect(Number(image.size)).to.equal(content.length);
    expect(Number(image.storageSize)).to.equal(4 * MiB);
    expect(Number(image.minDiskSize)).to.equal(12 * MiB);
    expect(image.os).to.deep.equal({ type: 1, nvidia: undefined });
    expect(image.hardwareGeneration?.features?.$case).to.equal('legacyFeatures');
    await using stored = await storedImage(image.id);
    const bytes = Buffer.alloc(content.length);
    await stored.read(bytes, 0);
    expect(bytes.equals(content)).to.equal(true);
  });

  it('imports from a server that ignores ranges, and one that sends no length', async () => {
    const content = Buffer.alloc(5 * MiB, 'abcdefg');
    for (const behaviour of [
      { ranges: 'ignored' },
      { ranges: 'ignored', length: 'chunked' },
      { head: 'refused', etag: null },
    ] as const) {
      await using web = await startWebServer({ content, behaviour });
      const image = await client.import({ source: uri(web.url()) });
      await using stored = await storedImage(image.id);
      const bytes = Buffer.alloc(content.length);
      await stored.read(bytes, 0);
      expect(bytes.equals(content), JSON.stringify(behaviour)).to.equal(true);
    }
  });

  it('checks a digest over the bytes of the file', async () => {
    const content = Buffer.alloc(4 * MiB, 'x');
    const { createHash } = await import('node:crypto');
    const hex = createHash('sha256').update(content).digest('hex');
    await using web = await startWebServer({ content });
    await client.import({ source: uri(`${web.url()}#sha256=${hex}`) });
    const wrong = await client.wait(await client.createImage({ source: uri(`${web.url()}#sha256=${'0'.repeat(64)}`) }));
    expect(wrong.result?.$case).to.equal('error');
    await expectGone(wrong.metadata!);
  });

  it('ends CANCELLED soon after a cancel, and leaves no image and no name behind', async () => {
    const content = Buffer.alloc(64 * MiB, 'y');
    await using web = await startWebServer({ content, behaviour: { trickle: { bytes: 65_536, everyMs: 20 } } });
    const operation = await client.createImage({ name: 'to-cancel', source: uri(web.url()) });
    const again = await client.cancel(operation.id);
    expect(again.metadata).to.deep.equal(operation.metadata);
    const done = await client.wait(again, 60_000);
    expect(done.result?.$case === 'error' && done.result.value.code).to.equal(status.CANCELLED);
    await expectGone(done.metadata!);
    const reused = await client.import({ name: 'to-cancel', source: { $case: 'imageId', value: (await anImage()).id } });
    expect(reused.name).to.equal('to-cancel');
  });

  it('deletes an image whose import is still running', async () => {
    await using web = await startWebServer({
      content: Buffer.alloc(64 * MiB, 'z'),
      behaviour: { trickle: { bytes: 65_536, everyMs: 20 } },
    });
    const create = await client.createImage({ name: 'to-delete', source: uri(web.url()) });
    const deleted = await client.wait(await client.deleteImage(imageIdOf(create)), 60_000);
    expect(deleted.result?.$case).to.equal('response');
    const ended = await client.wait(create, 60_000);
    expect(ended.result?.$case === 'error' && ended.result.value.code).to.equal(status.CANCELLED);
    await expectGone(create.metadata!);
  });

  const badSources: [string, Parameters<typeof startWebServer>[0]['behaviour'], RegExp][] = [
    ['answers 404', { status: 404 }, /404/],
    ['answers 403', { status: 403 }, /403/],
    [
      'sends HTML',
      { contentType: 'text/html', content: Buffer.from('<!DOCTYPE html><html><body>log in</body></html>'.padEnd(4096)) },
      /HTML/i,
    ],
    [
      'redirects to a metadata address',
      { redirect: { location: 'http://169.254.169.254/latest/meta-data' } },
      /169\.254\.169\.254/,
    ],
    ['redirects to a file', { redirect: { location: 'file:///etc/passwd' } }, /file/],
    ['redirects in circles', { redirect: { location: '/again' } }, /redirect/],
    ['changes half-way', ({ index }) => (index < 2 ? {} : { etag: '"v2"' }), /changed/],
    ['sends gzip encoding', { contentEncoding: 'gzip' }, /gzip/],
  ];
  for (const [what, behaviour, text] of badSources) {
    it(`says why an import fails when the source ${what}, and leaves nothing behind`, async () => {
      await using web = await startWebServer({
        content: Buffer.alloc(40 * MiB, 'q'),
        ...(behaviour === undefined ? {} : { behaviour }),
      });
      const done = await client.wait(
        await client.createImage({ name: 'bad', source: uri(`${web.url()}?signature=secret`) }),
        60_000,
      );
      expect(done.result?.$case).to.equal('error');
      const error = done.result?.$case === 'error' ? done.result.value : undefined;
      expect(error?.message).to.match(text).and.not.contain('secret');
      await expectGone(done.metadata!);
      expect(obraz.output).not.to.contain('secret');
    });
  }

  it('connects nowhere when the source, or a redirect of it, is a port of this machine that is not allowed', async () => {
    await using forbidden = await startWebServer({ content: Buffer.alloc(4 * MiB, 'a') });
    await using allowed = await startWebServer({
      content: Buffer.alloc(4 * MiB),
      behaviour: { redirect: { location: forbidden.url() } },
    });
    await using strict = await Obraz.start({ environment: { OBRAZ_IMPORT_ALLOW: `127.0.0.1/32:${allowed.port}` } });
    using strictClient = await ObrazClient.of(strict);
    const atTheCall = await strictClient.createImage({ source: uri(forbidden.url()) }).catch((error: unknown) => error);
    expect(atTheCall).to.have.property('code', status.INVALID_ARGUMENT);
    const redirected = await strictClient.wait(await strictClient.createImage({ source: uri(allowed.url()) }));
    expect(redirected.result?.$case).to.equal('error');
    expect(allowed.connectionCount).to.equal(1);
    expect(forbidden.connectionCount).to.equal(0);
  });

  async function anImage() {
    await using web = await startWebServer({ content: Buffer.alloc(4 * MiB, 'i') });
    // Awaited here: the server is there only inside this function.
    return await client.import({ source: uri(web.url()) });
  }

  async function expectGone(metadata: { value: Uint8Array }): Promise<void> {
    const id = imageIdOf({ metadata } as never);
    const answer = await client.getImage(id).catch((error: unknown) => error);
    expect(answer).to.have.property('code', status.NOT_FOUND);
  }
});
