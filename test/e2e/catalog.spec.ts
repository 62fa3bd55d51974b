// The image catalog end to end: the shipped entries against a mirror that has the layout of the distributions' sites, and then what clients
// do with the result: GetLatestByFamily in standard-images, Terraform's way from source_family to a disk.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials, type ServiceError, status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { AccessBindingAction } from '../../generated/yandex/cloud/access/access.ts';
import { Image_Status, Os_Type } from '../../generated/yandex/cloud/compute/v1/image.ts';
import { IamTokenServiceClient } from '../../generated/yandex/cloud/iam/v1/iam_token_service.ts';
import {
  CreateServiceAccountMetadata,
  CreateServiceAccountRequest,
  ServiceAccountServiceClient,
} from '../../generated/yandex/cloud/iam/v1/service_account_service.ts';
import { FolderServiceClient } from '../../generated/yandex/cloud/resourcemanager/v1/folder_service.ts';
import { type CatalogEntry, readCatalog } from '../../src/image-catalog/catalog.ts';
import { ObrazClient, unary } from '../support/client.ts';
import { command, type CommandEnded } from '../support/command.ts';
import { writeMadeUpQcow2 } from '../support/made-up-qcow2.ts';
import { Obraz } from '../support/obraz.ts';
import { removeDataFolder, type TestDatabase, testDatabase } from '../support/postgres.ts';
import { isLongRun, sampledIt, sampleOf, testSeed } from '../support/sample.ts';
import { rows } from '../support/slow-import.ts';
import { type Behaviour, startWebServer, type WebServer } from '../support/web-server.ts';

const GiB = 1024n ** 3n;
const standardImages = 'standard-images';
const repository = path.resolve(import.meta.dirname, '../..');

interface Published {
  content: Uint8Array;
  lastModified?: Date;
  /** Instead of that of the content. */
  hex?: string;
  behaviour?: Behaviour;
}

describe('image catalog end to end', function () {
  this.timeout(120_000);
  let database: TestDatabase;
  let folder: string;
  let dataDirectory: string;
  let environment: Record<string, string>;
  let obraz: Obraz;
  let client: ObrazClient;
  let mirror: WebServer;
  let entries: CatalogEntry[];
  let qcow2: Buffer;
  /** By family, where it is not the image of all. */
  const published = new Map<string, Published>();

  const itSampled = sampledIt({ of: 6 });

  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'obraz-catalog-'));
    await writeMadeUpQcow2(path.join(folder, 'disk.qcow2'), 16 * 1024 ** 2);
    qcow2 = await readFile(path.join(folder, 'disk.qcow2'));
    entries = await readCatalog();
    mirror = await startWebServer({ content: qcow2 });
    mirror.behave(({ path: place }) => mirrored(place.slice(1)));
    const sites = new Set(entries.flatMap(({ image, checksums }) => [image, checksums.url]).map((url) => new URL(url).host));
    const mirrors = Object.fromEntries([...sites].map((site) => [`https://${site}/`, mirror.url(`/${site}/`)]));
    await writeFile(path.join(folder, 'catalog.json'), JSON.stringify({ mirrors }));

    database = await testDatabase();
    dataDirectory = await mkdtemp(path.join(tmpdir(), 'obraz-e2e-'));
    environment = {
      DATABASE_URL: database.url,
      OBRAZ_CATALOG_FILE: path.join(folder, 'catalog.json'),
      OBRAZ_IMPORT_ALLOW: '127.0.0.1/32',
      // The command line is started many times here.
      NODE_COMPILE_CACHE: path.join(repository, 'node_modules/.cache/node'),
    };
    obraz = await Obraz.start({ dataDirectory, environment });
    client = await ObrazClient.of(obraz);
  });

  after(async () => {
    client?.[Symbol.dispose]();
    await obraz?.[Symbol.asyncDispose]();
    await mirror?.[Symbol.asyncDispose]();
    await removeDataFolder(dataDirectory);
    await database?.dispose();
    await rm(folder, { recursive: true });
  });

  /** What the site of `place`, without its scheme, serves there. */
  function mirrored(place: string): Behaviour {
    for (const entry of entries) {
      const found: Partial<Published> = published.get(entry.family) ?? {};
      const { content = qcow2, lastModified = new Date('2025-03-04T05:06:07Z') } = found;
      if (entry.image === `https://${place}`)
        return { content, lastModified, etag: `"${digestOf(entry, content)}"`, ...found.behaviour };
      if (entry.checksums.url !== `https://${place}`) continue;
      const lines = entries
        .filter(({ checksums }) => checksums.url === entry.checksums.url)
        .map((each) => checksumLine(each, found.hex ?? digestOf(each, content)));
      return { content: Buffer.from(checksumFile(entry, lines)), etag: null };
    }
    return { status: 404 };
  }

  const digestOf = ({ checksums }: CatalogEntry, content: Uint8Array): string =>
    createHash(checksums.algorithm).update(content).digest('hex');

  function checksumLine({ image, checksums }: CatalogEntry, hex: string): string {
    const name = image.slice(image.lastIndexOf('/') + 1);
    if (checksums.format === 'single') return `${hex}\n`;
    if (checksums.format === 'sums') return `${hex} *${name}\n`;
    return `# ${name}: ${qcow2.length} bytes\nSHA256 (${name}) = ${hex}\n`;
  }

  const checksumFile = ({ family }: CatalogEntry, lines: string[]): string =>
    family.startsWith('fedora')
      ? `-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n${lines.join('')}-----BEGIN PGP SIGNATURE-----\n\nabcd\n-----END PGP SIGNATURE-----\n`
      : lines.join('');

  const catalog = (...words: string[]): Promise<CommandEnded> => command({ dataDirectory, environment }, 'catalog', ...words);

  /** Imports and answers the image. */
  async function imported(family: string, ...words: string[]) {
    const ended = await catalog('import', family, ...words);
    expect(ended, ended.err).to.include({ status: 0 });
    return { ended, image: await client.getImage(ended.out.trim()) };
  }

  const codeOf = (call: Promise<unknown>): Promise<number> =>
    call.then(
      () => status.OK,
      (error: ServiceError) => error.code,
    );

  const imagesOf = (family: string) =>
    rows<{ name: string; status: string }>(database.url, 'select name, status from images where family = $1 order by name', [
      family,
    ]);

  it('lists what there is to import, and that nothing of it is there', async () => {
    const { status: exit, out, err } = await catalog('list');
    expect(exit, err).to.equal(0);
    for (const { family, name } of entries) expect(out).to.match(new RegExp(`^${family} +${name} +- +not tried$`, 'm'));
    expect(err).to.match(/no import of it was seen yet/);
  });

  it('imports into standard-images under the name of the build, optimized, with its source, and prints the id alone', async () => {
    const { ended, image } = await imported('ubuntu-2404-lts');
    expect(ended.out).to.equal(`${image.id}\n`);
    expect(ended.err).to.match(/ubuntu-2404-lts-v20250304 is imported\n$/);
    const hex = createHash('sha256').update(qcow2).digest('hex');
    expect(image).to.deep.include({
      folderId: standardImages,
      name: 'ubuntu-2404-lts-v20250304',
      family: 'ubuntu-2404-lts',
      status: Image_Status.READY,
      minDiskSize: 10n * GiB,
      pooled: true,
      labels: { 'source-digest': `sha256-${hex.slice(0, 48)}` },
    });
    expect(image.os!.type).to.equal(Os_Type.LINUX);
    expect(image.description).to.match(/^Ubuntu 24\.04 LTS\. .* From http.*ubuntu-24\.04-server-cloudimg-amd64\.img$/);
  });

  it('imports a build once, asked one after the other or at once', async () => {
    const { image } = await imported('ubuntu-2404-lts');
    const again = await imported('ubuntu-2404-lts');
    expect(again.image.id).to.equal(image.id);
    expect(again.ended.err).to.match(/ubuntu-2404-lts-v20250304 is this build: nothing to import/);
    const [one, other] = await Promise.all([imported('debian-12'), imported('debian-12')]);
    expect(one.image.id).to.equal(other.image.id);
    expect(await imagesOf('debian-12')).to.deep.equal([{ name: 'debian-12-v20250304', status: 'READY' }]);
  });

  itSampled('imports the next build beside it, also when it is of the same day, and lists the newest', async () => {
    const family = 'almalinux-9';
    await imported(family);
    published.set(family, { content: Buffer.alloc(1024 ** 2, 'second'), lastModified: new Date('2025-03-04T20:00:00Z') });
    expect((await imported(family)).image.name).to.equal(`${family}-v20250304-2`);
    published.set(family, { content: Buffer.alloc(1024 ** 2, 'third'), lastModified: new Date('2025-04-01T00:00:00Z') });
    const { image } = await imported(family);
    expect(image.name).to.equal(`${family}-v20250401`);
    expect((await catalog('list')).out).to.match(new RegExp(`^${family} .* ${family}-v20250401 `, 'm'));
    expect(
      await unary(client.images, client.images.getLatestByFamily, { folderId: standardImages, family }, client.metadata),
    ).to.deep.equal(image);
  });

  it(`reads the checksum file of every site (OBRAZ_TEST_SEED=${testSeed})`, async () => {
    const families = entries.map(({ family }) => family);
    for (const family of isLongRun ? families : sampleOf(families, 1, testSeed)) {
      const { image } = await imported(family);
      expect(image, family).to.include({ family, status: Image_Status.READY, folderId: standardImages });
    }
  });

  itSampled('leaves nothing of a file that is not the one that the distribution names', async () => {
    const before = await imagesOf('debian-11');
    published.set('debian-11', { content: qcow2, hex: 'ab'.repeat(64) });
    const ended = await catalog('import', 'debian-11');
    expect(ended).to.deep.include({ status: 1, out: '' });
    expect(ended.err).to.match(
      /obraz: The import of debian-11-v20250304\S* failed: Source .* has the sha512 .*, and the URI asks for (ab)+/,
    );
    expect(await imagesOf('debian-11')).to.deep.equal(before);
  });

  itSampled('imports into another folder on demand, not optimized there, and need not wait', async () => {
    const { image, ended } = await imported('rocky-8', '--folder', client.folderId, '--no-wait');
    expect(image).to.deep.include({ folderId: client.folderId, name: 'rocky-8-v20250304', pooled: false });
    expect(ended.err).to.match(/is being imported by operation /);
    const joined = await imported('rocky-8', '--folder', client.folderId);
    expect(joined.image).to.include({ id: image.id, status: Image_Status.READY });
  });

  itSampled('cancels the import on Ctrl-C', async () => {
    const family = 'ubuntu-2204-lts';
    // All but the head comes too slowly to end.
    published.set(family, {
      content: Buffer.alloc(8 * 1024 ** 2, 'slow'),
      behaviour: { trickle: { bytes: 65_536, everyMs: 500 } },
    });
    const child = spawn(process.execPath, ['src/main.ts', 'catalog', 'import', family], {
      cwd: repository,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, OBRAZ_DATA_DIR: dataDirectory, ...environment },
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text));
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    const isUnderWay = async () => (await imagesOf(family)).some(({ status: now }) => now !== 'READY');
    while (!(await isUnderWay()) && child.exitCode === null) await sleep(20);
    child.kill('SIGINT');
    expect(await ended, output).to.equal(1);
    while (await isUnderWay()) await sleep(20);
    const [{ id } = { id: '' }] = await rows<{ id: string }>(
      database.url,
      'select id from operations order by created_at desc limit 1',
    );
    expect((await client.getOperation(id)).result)
      .to.deep.include({ $case: 'error' })
      .and.to.have.nested.property('value.code', status.CANCELLED);
    published.delete(family);
    expect((await imported(family)).image.status).to.equal(Image_Status.READY);
  });

  itSampled('ends with 1 and says why when there is no such folder', async () => {
    const ended = await catalog('import', 'debian-13', '--folder', 'b1gnosuchfolder');
    expect(ended).to.deep.include({ status: 1, out: '' });
    expect(ended.err).to.match(/b1gnosuchfolder/);
  });

  itSampled('asks the mirror nothing where imports may not go there', async () => {
    const before = mirror.requests.length;
    const strict = { ...environment, OBRAZ_IMPORT_ALLOW: '' };
    const ended = await command({ dataDirectory, environment: strict }, 'catalog', 'import', 'debian-13');
    expect(ended.status).to.equal(1);
    expect(ended.err).to.match(/not one that imports may reach/);
    expect(mirror.requests.length).to.equal(before);
  });

  describe('for somebody who has a folder and no role on standard-images', () => {
    let stranger: ObrazClient;

    before(async () => {
      await imported('ubuntu-2404-lts');
      const channel = credentials.createInsecure();
      const accounts = new ServiceAccountServiceClient(client.address, channel);
      const { metadata } = await unary(
        accounts,
        accounts.create,
        CreateServiceAccountRequest.fromPartial({ folderId: client.folderId, name: 'stranger' }),
        client.metadata,
      ).finally(() => accounts.close());
      const { serviceAccountId } = CreateServiceAccountMetadata.decode(metadata!.value);
      const folders = new FolderServiceClient(client.address, channel);
      const accessBinding = { roleId: 'editor', subject: { id: serviceAccountId, type: 'serviceAccount' } };
      await unary(
        folders,
        folders.updateAccessBindings,
        { resourceId: client.folderId, accessBindingDeltas: [{ action: AccessBindingAction.ADD, accessBinding }] },
        client.metadata,
      ).finally(() => folders.close());
      const tokens = new IamTokenServiceClient(client.address, channel);
      const { iamToken } = await unary(tokens, tokens.createForServiceAccount, { serviceAccountId }, client.metadata).finally(
        () => tokens.close(),
      );
      stranger = new ObrazClient(client.address, iamToken, client.folderId);
    });

    after(() => stranger?.[Symbol.dispose]());

    it("works as Terraform's source_family does: the newest of the family, an image of it, a disk of it", async () => {
      const family = 'ubuntu-2404-lts';
      const newest = await unary(
        stranger.images,
        stranger.images.getLatestByFamily,
        { folderId: standardImages, family },
        stranger.metadata,
      );
      expect(newest.name).to.equal('ubuntu-2404-lts-v20250304');
      const source = { $case: 'imageId', value: newest.id } as const;
      // Terraform sends an os without a type where none is set: it is inherited.
      const image = await stranger.import({
        name: 'from-family',
        source,
        os: { type: Os_Type.TYPE_UNSPECIFIED, nvidia: undefined },
      });
      expect(image).to.deep.include({ os: newest.os, minDiskSize: newest.minDiskSize, pooled: false });
      const disk = await stranger.disk({ name: 'boot', size: 10n * GiB, source });
      expect(disk.source).to.deep.equal({ $case: 'sourceImageId', value: newest.id });
    });

    it('is closed where it must be: nothing is changed in standard-images, and nobody reads it without a token', async () => {
      const { images, metadata } = stranger;
      const [image] = (
        await unary(
          images,
          images.list,
          { folderId: standardImages, pageSize: 1n, pageToken: '', filter: '', orderBy: '' },
          metadata,
        )
      ).images;
      expect(await codeOf(stranger.deleteImage(image!.id))).to.equal(status.PERMISSION_DENIED);
      expect(
        await codeOf(stranger.createImage({ folderId: standardImages, source: { $case: 'imageId', value: image!.id } })),
      ).to.equal(status.PERMISSION_DENIED);
      const anonymous = unary(images, images.getLatestByFamily, { folderId: standardImages, family: image!.family });
      expect(await codeOf(anonymous)).to.equal(status.UNAUTHENTICATED);
    });
  });

  if (isLongRun)
    it('survives the death of the service: the same command waits for the import that goes on', async () => {
      const family = 'fedora-44';
      const content = Buffer.alloc(16 * 1024 ** 2, 'again');
      published.set(family, { content, behaviour: { trickle: { bytes: 65_536, everyMs: 100 } } });
      const before = await imagesOf(family);
      const first = catalog('import', family);
      while ((await imagesOf(family)).length === before.length) await sleep(20);
      await sleep(500);
      await obraz.kill();
      const ended = await first;
      expect(ended.status).to.equal(1);
      expect(ended.err).to.match(
        /It goes on with the import of fedora-44-v20250304\S* when it is back: run the command again then/,
      );
      published.set(family, { content });
      obraz = await Obraz.start({ dataDirectory, environment });
      client[Symbol.dispose]();
      client = await ObrazClient.of(obraz);
      const { image } = await imported(family);
      expect(image.status).to.equal(Image_Status.READY);
      expect(await imagesOf(family)).to.have.length(before.length + 1);
    });
});
