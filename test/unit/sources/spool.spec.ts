import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { readBytes } from '../../../src/platform/byte-source.ts';
import { probeSource } from '../../../src/sources/probe.ts';
import { fileSource, spoolSource, type SpoolOptions } from '../../../src/sources/spool.ts';
import { type Behaviour, startWebServer, type WebServer } from '../../support/web-server.ts';
import { expectDomainError, expectTransientError, failure, impatient, patternBytes, policyFor, sameBytes } from './fixture.ts';

const content = patternBytes(3_500_000);
const digestOf = (algorithm: 'sha256' | 'sha512', bytes: Uint8Array = content) =>
  createHash(algorithm).update(bytes).digest('hex');

describe('spool', () => {
  let server: WebServer;
  let directory: string;
  beforeEach(async () => {
    server = await startWebServer({ content });
    directory = await mkdtemp(join(tmpdir(), 'obraz-spool-'));
  });
  afterEach(async () => {
    await server[Symbol.asyncDispose]();
    const left = await readdir(directory);
    await rm(directory, { recursive: true });
    expect(left, 'files that were left behind').to.deep.equal([]);
  });

  const spool = async (uri: string, options: Partial<SpoolOptions> = {}) =>
    spoolSource(await probeSource(uri, policyFor(), impatient), { directory, maxBytes: 1e9, ...impatient, ...options });

  const whole: [name: string, behaviour: Behaviour][] = [
    ['has ranges', {}],
    ['ignores ranges', { ranges: 'ignored' }],
    ['refuses ranges', { ranges: 416 }],
    ['sends no length', { ranges: 'ignored', length: 'untilClose' }],
    ['sends chunks', { ranges: 'ignored', length: 'chunked' }],
    ['has no validator', { ranges: 'ignored', etag: null, lastModified: null }],
  ];
  for (const [name, behaviour] of whole) {
    it(`fetches the whole of a source whose server ${name}`, async () => {
      server.behave(behaviour);
      await using source = await spool(server.url());
      expect(source.sizeBytes).to.equal(content.length);
      expect(source.bytesFetched).to.equal(content.length);
      expect(sameBytes(await readBytes(source, 0, content.length), content)).to.equal(true);
      expect(sameBytes(await readBytes(source, 1_234_567, 99), content.subarray(1_234_567, 1_234_666))).to.equal(true);
      await using again = await fileSource(source.path);
      expect(sameBytes(await readBytes(again, 3_000_000, 500_000), content.subarray(3_000_000))).to.equal(true);
      expect((await stat(source.path)).mode & 0o777).to.equal(0o600);
      expect(await readdir(directory)).to.have.length(1);
    });
  }

  it('asks nothing more for a source that the probe has seen whole', async () => {
    server.behave({ content: content.subarray(0, 5000) });
    await using source = await spool(`${server.url()}#sha256=${digestOf('sha256', content.subarray(0, 5000))}`);
    expect(server.requests).to.have.length(1);
    expect(sameBytes(await readBytes(source, 0, 5000), content.subarray(0, 5000))).to.equal(true);
  });

  it('tells how far it is', async () => {
    const seen: { bytesDone: number; sizeBytes: number | undefined }[] = [];
    await using _source = await spool(server.url(), { onProgress: (progress) => void seen.push(progress) });
    expect(seen.at(-1)).to.deep.equal({ bytesDone: content.length, sizeBytes: content.length });
    expect(seen.length).to.be.greaterThan(2);
  });

  describe('digest', () => {
    for (const algorithm of ['sha256', 'sha512'] as const) {
      it(`by ${algorithm} is verified over all bytes`, async () => {
        await using source = await spool(`${server.url()}#${algorithm}=${digestOf(algorithm).toUpperCase()}`);
        expect(source.sizeBytes).to.equal(content.length);
        const wrong = digestOf(algorithm, content.subarray(1));
        const error = await expectDomainError(
          spool(`${server.url('/x?SECRET')}#${algorithm}=${wrong}`),
          'FAILED_PRECONDITION',
          wrong,
        );
        expect(error.message)
          .to.contain(`has the ${algorithm} ${digestOf(algorithm)}`)
          .and.not.to.contain('SECRET');
      });
    }

    it('holds across a broken connection, continued or begun anew', async () => {
      for (const ranges of [undefined, 'ignored'] as const) {
        const before = server.requests.length;
        server.behave(({ index }) => ({
          ...(ranges === undefined ? {} : { ranges }),
          ...(index === before + 1 ? { breakAfterBytes: 2_000_000 } : {}),
        }));
        await using source = await spool(`${server.url()}#sha256=${digestOf('sha256')}`);
        expect(source.sizeBytes).to.equal(content.length);
        expect(source.bytesFetched).to.equal(ranges === undefined ? content.length : content.length + 2_000_000);
      }
    });
  });

  describe('trouble on the way', () => {
    it('goes on where it broke when the server has ranges and a validator', async () => {
      for (const behaviour of [{}, { etag: null }] satisfies Behaviour[]) {
        const before = server.requests.length;
        server.behave(({ index }) => ({
          ...behaviour,
          ...(index > before && index < before + 3 ? { breakAfterBytes: 1_500_000 } : {}),
        }));
        await using source = await spool(server.url());
        expect(sameBytes(await readFile(source.path), content)).to.equal(true);
        expect(source.bytesFetched).to.equal(content.length);
        const requests = server.requests.slice(before + 1);
        expect(requests.map(({ range }) => range?.start)).to.deep.equal([undefined, 1_500_000, 3_000_000]);
        expect(requests[1]!.headers['if-range']).to.equal('etag' in behaviour ? 'Sun, 02 Feb 2020 02:02:02 GMT' : '"v1"');
      }
    });

    it('begins anew, a few times, when it cannot go on', async () => {
      for (const behaviour of [{ ranges: 'ignored' }, { etag: null, lastModified: null }] satisfies Behaviour[]) {
        const before = server.requests.length;
        server.behave(({ index }) => ({
          ...behaviour,
          ...(index > before && index < before + 4 ? { breakAfterBytes: (index - before) * 1_000_000 } : {}),
        }));
        await using source = await spool(server.url());
        expect(sameBytes(await readFile(source.path), content)).to.equal(true);
        expect(server.requests.slice(before + 1).map(({ range }) => range)).to.deep.equal(
          Array.from({ length: 4 }, () => undefined),
        );
      }
    });

    it('ends shorter than it once was when an attempt that was given up had come further', async () => {
      const short = content.subarray(0, 2_000_000);
      server.behave(({ index }) => ({
        ranges: 'ignored',
        length: 'chunked',
        etag: null,
        lastModified: null,
        ...(index === 1 ? { breakAfterBytes: 3_000_000 } : { content: index === 0 ? content : short }),
      }));
      await using source = await spool(server.url());
      expect(sameBytes(await readFile(source.path), short)).to.equal(true);
    });

    it('ends when it breaks at another place each time', async () => {
      server.behave(({ index }) => ({ ranges: 'ignored', ...(index > 0 ? { breakAfterBytes: 1_000_000 + index } : {}) }));
      await expectTransientError(
        spool(server.url()),
        /broke off 4 times, and its server cannot continue a download; try again later$/,
      );
      expect(server.requests).to.have.length(5);
    });

    it('is final when the server always sends less than it says', async () => {
      server.behave(({ index }) => ({ ranges: 'ignored', ...(index > 0 ? { breakAfterBytes: 1_000_000 } : {}) }));
      await expectDomainError(
        spool(server.url()),
        'FAILED_PRECONDITION',
        '3500000 bytes were announced and only 1000000 were sent, 4 times alike',
      );
    });

    it('is passed over when it is the server’s own', async () => {
      server.behave(({ index }) => (index > 0 && index < 4 ? { status: 503 } : {}));
      await using source = await spool(server.url());
      expect(source.bytesFetched).to.equal(content.length);
    });
  });

  describe('a source that is not what it was', () => {
    for (const [name, behaviour, text] of [
      ['another version', { etag: '"v2"' }, 'it is not the version that was found first'],
      ['another version, found by its ETag', { etag: '"v2"', conditions: 'ignored' }, 'its ETag is another one'],
      ['another length', { content: content.subarray(1) }, 'it has 3499999 bytes and had 3500000'],
      [
        'another length, found at the end',
        { content: content.subarray(1), length: 'chunked' },
        'it has 3499999 bytes and had 3500000',
      ],
    ] as [string, Behaviour, string][]) {
      it(`is refused: ${name}`, async () => {
        server.behave(({ index }) => ({ ranges: 'ignored', ...(index > 0 ? behaviour : {}) }));
        await expectDomainError(spool(server.url()), 'ABORTED', text);
      });
    }

    it('is refused when it changes while it is continued', async () => {
      server.behave(({ index }) => (index < 2 ? { breakAfterBytes: 1_000_000 } : { etag: '"v2"' }));
      await expectDomainError(spool(server.url()), 'ABORTED', 'its ETag is another one');
    });

    it('is refused when it has gone, or its signature has expired', async () => {
      for (const [status, text] of [
        [404, 'answered 404 Not Found while it was being read'],
        [403, 'the signature of the URL is wrong or has expired'],
      ] as const) {
        const before = server.requests.length;
        server.behave(({ index }) => (index === before ? { breakAfterBytes: 1e9 } : { status }));
        await expectDomainError(spool(server.url()), 'FAILED_PRECONDITION', text);
      }
    });
  });

  describe('bounds', () => {
    it('refuse a source that says it is too long, before it is fetched', async () => {
      await expectDomainError(
        spool(server.url(), { maxBytes: 3_499_999 }),
        'FAILED_PRECONDITION',
        'is 3500000 bytes long; at most 3499999 bytes are accepted',
      );
      expect(server.requests).to.have.length(1);
      await using source = await spool(server.url(), { maxBytes: 3_500_000 });
      expect(source.sizeBytes).to.equal(3_500_000);
    });

    it('refuse a source that turns out too long while it comes', async () => {
      server.behave({ ranges: 'ignored', length: 'chunked' });
      await expectDomainError(
        spool(server.url(), { maxBytes: 1_000_000 }),
        'FAILED_PRECONDITION',
        'is longer; at most 1000000 bytes are accepted',
      );
    });

    it('refuse a source for which the disk has no room', async () => {
      server.behave({ ranges: 'ignored', headers: { 'content-length': String(2 ** 50) } });
      await expectTransientError(
        spool(server.url(), { maxBytes: 2 ** 52 }),
        'The service has no room for a temporary copy of the source (1125899906842624 bytes)',
      );
    });
  });

  it('ends at once when it is aborted, in whatever state', async () => {
    const reason = new Error('cancelled');
    for (const behaviour of [
      { silent: true },
      { trickle: { bytes: 10_000, everyMs: 5 } },
      { status: 503 },
    ] satisfies Behaviour[]) {
      const before = server.requests.length;
      server.behave(({ index }) => (index === before ? {} : behaviour));
      const abort = new AbortController();
      const spooling = failure(spool(server.url(), { signal: abort.signal, retry: { firstPauseMs: 60_000 } }));
      while (server.requests.length < before + 2) await new Promise((resolve) => setImmediate(resolve));
      await new Promise((resolve) => setTimeout(resolve, 30));
      abort.abort(reason);
      expect(await spooling).to.equal(reason);
    }
  });
});

describe('fileSource', () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'obraz-file-'));
  });
  afterEach(() => rm(directory, { recursive: true }));

  it('reads a file at any offset, and refuses ranges outside of it', async () => {
    const path = join(directory, 'x');
    await writeFile(path, content);
    await using source = await fileSource(path);
    await Promise.all(
      [0, 1, 999_999].map(async (offset) =>
        expect(sameBytes(await readBytes(source, offset, 100_000), content.subarray(offset, offset + 100_000))).to.equal(true),
      ),
    );
    expect(await failure(source.read(new Uint8Array(2), content.length - 1))).to.be.instanceOf(RangeError);
  });

  it('fails when the file has become shorter', async () => {
    const path = join(directory, 'x');
    await writeFile(path, content);
    await using source = await fileSource(path);
    await writeFile(path, 'short');
    expect((await failure(readBytes(source, 0, 10))).message).to.equal('a file of 3500000 bytes ends at 5');
  });
});
