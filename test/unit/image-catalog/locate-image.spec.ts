// From an entry to the published image, against a real web server.
import { expect } from 'chai';
import type { CatalogEntry } from '../../../src/image-catalog/catalog.ts';
import { locateImage } from '../../../src/image-catalog/locate-image.ts';
import { type Behaviour, startWebServer, type WebServer } from '../../support/web-server.ts';
import { expectDomainError, expectTransientError, impatient, policyFor } from '../sources/fixture.ts';

const hex = 'a'.repeat(64);
const access = { policy: policyFor(), options: impatient };

describe('locating the image of a catalog entry', () => {
  let server: WebServer;
  beforeEach(async () => (server = await startWebServer({ content: Buffer.alloc(100_000, 'image') })));
  afterEach(() => server[Symbol.asyncDispose]());

  const entry = (file = 'linux-9.img'): CatalogEntry => ({
    family: 'linux',
    name: 'Linux',
    description: '',
    os: 'linux',
    minDiskGiB: 1,
    image: server.url(`/images/${file}`),
    checksums: { url: server.url('/images/SHA256SUMS'), format: 'sums', algorithm: 'sha256' },
    tried: false,
  });

  const serve = (sums: string, { sumsToo = {}, image = {} }: { sumsToo?: Behaviour; image?: Behaviour } = {}) =>
    server.behave(({ path }) => (path === '/images/SHA256SUMS' ? { content: Buffer.from(sums), ...sumsToo } : image));

  it('answers the URL, the digest and the day on which the image was last modified', async () => {
    serve(`${'b'.repeat(64)} *linux-8.img\n${hex} *linux-9.img\n`, { image: { lastModified: new Date('2025-12-31T23:59:59Z') } });
    const { day, ...rest } = await locateImage(entry(), access);
    expect(rest).to.deep.equal({ url: entry().image, algorithm: 'sha256', hex });
    expect(day.toISOString()).to.equal('2025-12-31T23:59:59.000Z');
    // Only the head of the image is asked for.
    expect(server.requests.at(-1)).to.deep.include({ path: '/images/linux-9.img', range: { start: 0, end: 65_536 } });
  });

  it('takes the day of the checksum file where the image has none, and today where nobody tells', async () => {
    const lastModified = new Date('2024-02-29T00:00:00Z');
    serve(`${hex}  linux-9.img\n`, { sumsToo: { lastModified }, image: { lastModified: null } });
    expect((await locateImage(entry(), access)).day).to.deep.equal(lastModified);
    serve(`${hex}  linux-9.img\n`, { sumsToo: { lastModified: new Date(0) }, image: { lastModified: new Date('2199-01-01') } });
    expect(Math.abs((await locateImage(entry(), access)).day.getTime() - Date.now())).to.be.below(60 * 60_000);
  });

  it('resolves a star to the newest file', async () => {
    serve(`${'b'.repeat(64)}  linux-9.9.img\n${hex}  linux-9.10.img\n`);
    expect(await locateImage(entry('linux-*.img'), access)).to.include({ url: server.url('/images/linux-9.10.img'), hex });
  });

  it('follows redirects, and reads a checksum file that comes without ranges or length', async () => {
    server.behave(({ path }) => {
      if (path === '/images/SHA256SUMS') return { redirect: { location: '/mirror/SHA256SUMS' } };
      if (path === '/images/linux-9.img') return { redirect: { location: '/mirror/linux-9.img' } };
      return path.endsWith('SUMS') ? { content: Buffer.from(`${hex}  linux-9.img\n`), ranges: 'ignored', length: 'chunked' } : {};
    });
    expect(await locateImage(entry(), access)).to.include({ hex });
  });

  const refusals: [what: string, sums: string, extra: Parameters<typeof serve>[1], says: RegExp][] = [
    ['has no checksum file', '', { sumsToo: { status: 404 } }, /SHA256SUMS answered 404/],
    ['does not name the image', `${hex}  linux-8.img\n`, {}, /does not name linux-9\.img/],
    ['does not have the image', `${hex}  linux-9.img\n`, { image: { status: 404 } }, /linux-9\.img answered 404/],
    ['shows a page', '<!doctype html><title>Log in</title>', {}, /HTML page/],
    ['sends no text', '', { sumsToo: { content: Buffer.from([0xff, 0xfe, 0x30]) } }, /not text/],
    ['sends without end', ' '.repeat(1024 * 1024 + 1), {}, /at most 1048576 bytes/],
    [
      'sends without end and tells no length',
      ' '.repeat(1024 * 1024 + 1),
      { sumsToo: { ranges: 'ignored', length: 'chunked' } },
      /1048576/,
    ],
  ];
  for (const [what, sums, extra, says] of refusals)
    it(`says what is wrong when the site ${what}`, async () => {
      serve(sums, extra);
      await expectDomainError(locateImage(entry(), access), 'FAILED_PRECONDITION', says);
    });

  it('asks nothing that imports may not ask', async () => {
    await expectDomainError(
      locateImage(entry(), { ...access, policy: policyFor('192.0.2.1') }),
      'INVALID_ARGUMENT',
      /imports may reach/,
    );
    expect(server.connectionCount).to.equal(0);
    server.behave({ redirect: { location: 'http://10.0.0.1/SHA256SUMS' } });
    await expectDomainError(locateImage(entry(), access), 'FAILED_PRECONDITION', /imports may not reach/);
  });

  it('tells a passing trouble of the site from a lasting one', async () => {
    serve('', { sumsToo: { status: 503 } });
    await expectTransientError(locateImage(entry(), access), /503/);
  });
});
