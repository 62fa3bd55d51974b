import { expect } from 'chai';
import type { DomainError } from '../../../src/platform/errors.ts';
import { type ProbeOptions, probeSource } from '../../../src/sources/probe.ts';
import { type Behaviour, startWebServer, type WebServer } from '../../support/web-server.ts';
import { makeAuthority } from '../../support/certificates.ts';
import { expectDomainError, expectTransientError, failure, impatient, patternBytes, policyFor, sameBytes } from './fixture.ts';
import { startRawServer } from './raw-server.ts';

const content = patternBytes(200_000);
const headBytes = 65_536;
const html = '<!DOCTYPE html>\n<html><body>Please log in</body></html>';

const probe = (uri: string, options: ProbeOptions = {}) => probeSource(uri, policyFor(), { ...impatient, ...options });

describe('probe', () => {
  let server: WebServer;
  beforeEach(async () => {
    server = await startWebServer({ content });
  });
  afterEach(() => server[Symbol.asyncDispose]());

  it('learns size, ranges, validator and the first bytes from one request', async () => {
    const uri = server.url('/disk.img?sig=1');
    const info = await probe(uri);
    expect(info).to.deep.include({
      uri,
      digest: undefined,
      isRedirected: false,
      sizeBytes: content.length,
      hasRanges: true,
      validator: { kind: 'etag', value: '"v1"' },
    });
    expect(sameBytes(info.head, content.subarray(0, headBytes))).to.equal(true);
    expect(server.requests.map(({ method, path, range }) => ({ method, path, range }))).to.deep.equal([
      { method: 'GET', path: '/disk.img?sig=1', range: { start: 0, end: headBytes } },
    ]);
    expect(server.requests[0]!.headers['accept-encoding']).to.equal('identity');
  });

  it('answers plain data that can be posted to a thread', async () => {
    const info = await probe(`${server.url()}#sha256=${'ab'.repeat(32)}`);
    expect(structuredClone(info)).to.deep.equal(info);
    expect(info.digest).to.deep.equal({ algorithm: 'sha256', hex: 'ab'.repeat(32) });
    expect(info.head.buffer.byteLength).to.equal(headBytes);
  });

  it('keeps all of a file that is shorter than the first range', async () => {
    server.behave({ content: content.subarray(0, 1000) });
    const info = await probe(server.url());
    expect(info.sizeBytes).to.equal(1000);
    expect(sameBytes(info.head, content.subarray(0, 1000))).to.equal(true);
  });

  const servers: [name: string, behaviour: Behaviour, found: object, requestCount: number][] = [
    ['refuses HEAD', { head: 'refused' }, { hasRanges: true, sizeBytes: content.length }, 1],
    ['ignores ranges', { ranges: 'ignored' }, { hasRanges: false, sizeBytes: content.length }, 1],
    ['refuses ranges with 416', { ranges: 416 }, { hasRanges: false, sizeBytes: content.length }, 2],
    ['refuses ranges with 400', { ranges: 400 }, { hasRanges: false, sizeBytes: content.length }, 2],
    ['sends ranges in chunks', { length: 'chunked' }, { hasRanges: true, sizeBytes: content.length }, 1],
    ['sends ranges without a length', { length: 'untilClose' }, { hasRanges: true, sizeBytes: content.length }, 1],
    ['knows no length', { ranges: 'ignored', length: 'untilClose' }, { hasRanges: false, sizeBytes: undefined }, 1],
    ['sends the file in chunks', { ranges: 'ignored', length: 'chunked' }, { hasRanges: false, sizeBytes: undefined }, 1],
    [
      'hides the size of a range',
      { contentRange: (right) => right.replace(/\/\d+/, '/*') },
      { hasRanges: false, sizeBytes: content.length },
      2,
    ],
    [
      'has no ETag',
      { etag: null },
      { hasRanges: true, validator: { kind: 'lastModified', value: 'Sun, 02 Feb 2020 02:02:02 GMT' } },
      1,
    ],
    ['has a weak ETag', { etag: 'W/"1"', lastModified: null }, { validator: undefined, etag: 'W/"1"' }, 1],
    ['has an ETag without quotes', { etag: 'abc', lastModified: null }, { validator: undefined }, 1],
    ['has no validator', { etag: null, lastModified: null }, { hasRanges: true, validator: undefined, etag: undefined }, 1],
    ['dates the file in the future', { etag: null, lastModified: new Date('2999-01-01') }, { validator: undefined }, 1],
    ['calls the file a text', { contentType: 'text/html; charset=utf-8' }, { hasRanges: true }, 1],
    ['says that nothing is encoded', { contentEncoding: 'identity' }, { hasRanges: true }, 1],
  ];
  for (const [name, behaviour, found, requestCount] of servers) {
    it(`copes with a server that ${name}`, async () => {
      server.behave(behaviour);
      const info = await probe(server.url());
      expect(info).to.deep.include(found);
      expect(sameBytes(info.head, content.subarray(0, headBytes))).to.equal(true);
      expect(server.requests).to.have.length(requestCount);
    });
  }

  it('trusts no date of change that lies in the second of the answer: the file may change again within it', async () => {
    server.behave(() => ({ etag: null, lastModified: new Date() }));
    expect((await probe(server.url())).validator).to.equal(undefined);
  });

  describe('final failures', () => {
    const final: [name: string, behaviour: Behaviour, text: string | RegExp][] = [
      ['404', { status: 404, body: 'SECRETBODY' }, /answered 404 Not Found: there is no such file$/],
      [
        '403',
        { status: 403, body: 'SECRETBODY' },
        /answered 403 Forbidden: access is forbidden, or the signature of the URL is wrong or has expired$/,
      ],
      ['401', { status: 401 }, /answered 401 Unauthorized: it asks for credentials; use a signed URL$/],
      ['410', { status: 410 }, /answered 410 Gone: the file is gone$/],
      ['400', { status: 400 }, /answered 400 Bad Request$/],
      ['418', { status: 418 }, /answered 418 I'm a Teapot$/],
      ['501', { status: 501 }, /answered 501 Not Implemented$/],
      ['416 to everything', { status: 416 }, /answered 416 Range Not Satisfiable$/],
      ['204', { status: 204 }, /status 204 No Content is not an answer to a download$/],
      ['300', { status: 300 }, /status 300 Multiple Choices is not an answer to a download$/],
      ['an empty file', { content: new Uint8Array(0) }, /is empty$/],
      ['an empty file without ranges', { content: new Uint8Array(0), ranges: 'ignored' }, /is empty$/],
      [
        'an empty file without ranges and length',
        { content: new Uint8Array(0), ranges: 'ignored', length: 'untilClose' },
        /is empty$/,
      ],
      [
        'gzip',
        { contentEncoding: 'gzip' },
        /with Content-Encoding "gzip" although it was asked for plain; serve the file as it is$/,
      ],
      ['brotli without ranges', { contentEncoding: 'br', ranges: 'ignored' }, /with Content-Encoding "br"/],
      [
        'a login page',
        { status: 200, body: html, headers: { 'content-type': 'text/html' } },
        /is an HTML page, not a disk image: a login or download page\?/,
      ],
      ['a page that is called a file', { content: Buffer.from(html) }, /is an HTML page/],
      [
        'another range',
        { contentRange: () => 'bytes 100-65635/200000' },
        /bytes 0 to 65535 were asked for and Content-Range names 100 to 65635$/,
      ],
      [
        'a shorter range',
        { contentRange: () => 'bytes 0-99/200000' },
        /bytes 0 to 65535 were asked for and Content-Range names 0 to 99$/,
      ],
      [
        'a length that differs from the range',
        { headers: { 'content-length': '65537' } },
        /Content-Range names 65536 bytes and Content-Length 65537$/,
      ],
      ['nonsense for a range', { contentRange: () => 'bytes 9-0/5' }, /status 206 without a valid Content-Range$/],
      ['206 without a range', { status: 206, body: 'x' }, /status 206 without a valid Content-Range$/],
      ['a redirect to nowhere', { status: 302 }, /redirects without saying where$/],
    ];
    for (const [name, behaviour, text] of final) {
      it(`${name}: asks once or twice, and says why`, async () => {
        server.behave(behaviour);
        const error = await expectDomainError(
          probe(server.url('/dir/disk.img?X-Signature=SECRET#')),
          'FAILED_PRECONDITION',
          text,
        );
        expect(error.message).to.contain(server.url('/dir/disk.img'));
        expect(error.message).not.to.contain('SECRET');
        expect((error.details[0] as { reason: string }).reason).to.match(/^SOURCE_[A-Z_]+$/);
        expect(server.requests.length).to.be.within(1, 2);
      });
    }

    it('an untrusted certificate: names the server, the reason and the setting', async () => {
      await using secure = await startWebServer({ content, tls: makeAuthority().issue(['localhost']) });
      const text = `The certificate of source server localhost:${secure.port} is not trusted (UNABLE_TO_VERIFY_LEAF_SIGNATURE); the operator adds certificate authorities with OBRAZ_IMPORT_CA_FILE`;
      await expectDomainError(probe(secure.url()), 'FAILED_PRECONDITION', text);
    });

    it('conflicting headers: names what is wrong and nothing of the answer', async () => {
      await using raw = await startRawServer(
        () => 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\nX: SECRET\r\n\r\nhello',
      );
      const error = await failure(probe(`http://127.0.0.1:${raw.port}/x`));
      expect(error.message).to.equal(
        `Source http://127.0.0.1:${raw.port}/x sent a wrong answer: header content-length is sent twice with different values`,
      );
    });
  });

  describe('passing trouble', () => {
    for (const status of [408, 425, 429, 500, 502, 503, 504]) {
      it(`is ${status}, which is tried again until it has gone`, async () => {
        server.behave(({ index }) => (index < 3 ? { status } : {}));
        expect((await probe(server.url())).sizeBytes).to.equal(content.length);
        expect(server.requests).to.have.length(4);
      });
    }

    it('ends after a bounded number of tries', async () => {
      server.behave({ status: 503, body: 'SECRETBODY' });
      const error = await expectTransientError(
        probe(server.url('/x?SECRET'), { retry: { ...impatient.retry, maxAttempts: 3 } }),
        /keeps answering 503 Service Unavailable; try again later$/,
      );
      expect(error.message).not.to.contain('SECRET');
      expect(server.requests).to.have.length(3);
    });

    it('waits as long as Retry-After asks, but not for ever', async () => {
      server.behave(({ index }) => (index === 0 ? { status: 503, headers: { 'retry-after': '3600' } } : {}));
      const startedAt = performance.now();
      await probe(server.url(), { retry: { ...impatient.retry, maxRetryAfterMs: 60 } });
      expect(performance.now() - startedAt).to.be.greaterThan(50);
    });

    it('is a connection that breaks, by a close or a reset, in the first bytes', async () => {
      for (const breakBy of ['close', 'reset'] as const) {
        server.behave(({ index }) => (index % 3 < 2 ? { breakAfterBytes: 100, breakBy } : {}));
        expect((await probe(server.url())).sizeBytes).to.equal(content.length);
      }
      server.behave({ breakAfterBytes: 100 });
      await expectTransientError(
        probe(server.url()),
        /broke off: the connection ended .* bytes before the end of the body; try again later$/,
      );
    });

    it('is a server that stalls within the first bytes', async () => {
      server.behave({ trickle: { bytes: 10, everyMs: 40 } });
      const options = { timeouts: { stallMs: 30 }, retry: { ...impatient.retry, maxAttempts: 2 } };
      await expectTransientError(probe(server.url(), options), /broke off: only \d+ bytes arrived in 0.03 s/);
    });

    it('is told alike for a closed port, a silent one and one where no web server listens', async () => {
      await using silent = await startWebServer({ content, behaviour: { silent: true } });
      await using ssh = await startRawServer(() => 'SSH-2.0-OpenSSH\r\n');
      const closed = await startRawServer(() => undefined);
      await closed[Symbol.asyncDispose]();
      for (const { port } of [silent, ssh, closed]) {
        const error = await expectTransientError(
          probe(`http://127.0.0.1:${port}/x?SECRET`, { timeouts: { responseMs: 40 } }),
          /./,
        );
        expect(error.message).to.equal(
          `Source server 127.0.0.1:${port} did not answer over http: check the URL, and that this service can reach it`,
        );
      }
    });

    it('keeps trying a server that cannot be reached for the same time, however it fails', async () => {
      const closed = await startRawServer(() => undefined);
      await closed[Symbol.asyncDispose]();
      const startedAt = performance.now();
      await failure(probe(`http://127.0.0.1:${closed.port}/x`, { retry: { ...impatient.retry, unreachableMs: 150 } }));
      expect(performance.now() - startedAt).to.be.greaterThan(145);
    });
  });

  describe('redirects', () => {
    it('are followed, with the policy on each and the last as the target', async () => {
      await using far = await startWebServer({ content });
      const steps: Record<string, Behaviour> = {
        '/a/start': { redirect: { status: 301, location: 'next?b=1' } },
        '/a/next?b=1': { redirect: { status: 302, location: '../up' } },
        '/up': { redirect: { status: 303, location: '?q' } },
        '/up?q': { redirect: { status: 307, location: `//127.0.0.1:${server.port}/host` } },
        '/host': { redirect: { status: 308, location: far.url('/end?sig=1#ignored') } },
      };
      server.behave(({ path }) => steps[path] ?? {});
      const info = await probe(server.url('/a/start'));
      expect(info.isRedirected).to.equal(true);
      expect(info.uri).to.equal(server.url('/a/start'));
      expect(info.target).to.include({ port: far.port, path: '/end?sig=1' });
      expect(server.requests.map(({ path }) => path)).to.deep.equal(Object.keys(steps));
    });

    it('are read as UTF-8 when a server does not escape them', async () => {
      const location = Buffer.from('/диск.img').toString('latin1');
      server.behave(({ index }) => (index === 0 ? { redirect: { location } } : {}));
      expect((await probe(server.url())).target.path).to.equal('/%D0%B4%D0%B8%D1%81%D0%BA.img');
    });

    it('end after five', async () => {
      server.behave({ redirect: { location: '/again' } });
      await expectDomainError(probe(server.url('/x?SECRET')), 'FAILED_PRECONDITION', /\/x redirects more than 5 times$/);
      expect(server.requests).to.have.length(6);
    });

    it('do not lead from https to http', async () => {
      const authority = makeAuthority();
      await using secure = await startWebServer({
        content,
        tls: authority.issue(['localhost']),
        behaviour: { redirect: { location: server.url() } },
      });
      await expectDomainError(
        probe(secure.url(), { certificateAuthorities: authority.pem }),
        'FAILED_PRECONDITION',
        /redirects from https to http, which is refused$/,
      );
      expect(server.requests).to.have.length(0);
    });

    it('may lead from http to https', async () => {
      const authority = makeAuthority();
      await using secure = await startWebServer({ content, tls: authority.issue(['localhost']) });
      server.behave({ redirect: { location: secure.url() } });
      const info = await probe(server.url(), { certificateAuthorities: authority.pem });
      expect(info.target).to.include({ protocol: 'https:', servername: 'localhost' });
    });

    it('keep the query of every hop out of errors', async () => {
      server.behave(({ path }) => (path.startsWith('/gone') ? { status: 404 } : { redirect: { location: '/gone?SECRET' } }));
      const error = await failure(probe(server.url('/x?SECRET')));
      expect(error.message).to.contain('/gone answered 404').and.not.to.contain('SECRET');
    });
  });

  it('ends at once when it is aborted, whatever it waits for', async () => {
    const reason = new Error('cancelled');
    for (const behaviour of [
      { silent: true },
      { status: 503, headers: { 'retry-after': '60' } },
      { breakAfterBytes: 0 },
    ] satisfies Behaviour[]) {
      server.behave(behaviour);
      const seen = server.requests.length;
      const abort = new AbortController();
      const retry = { firstPauseMs: 60_000, maxPauseMs: 60_000, unreachableMs: 60_000 };
      const waiting = failure(probe(server.url(), { signal: abort.signal, retry }));
      while (server.requests.length === seen) await new Promise((resolve) => setImmediate(resolve));
      await new Promise((resolve) => setTimeout(resolve, 40));
      abort.abort(reason);
      expect(await waiting).to.equal(reason);
    }
  });

  it('leaves no connection open', async () => {
    server.behave({ ranges: 'ignored' });
    await probe(server.url());
    while (server.openConnectionCount > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  });

  it('keeps the address that answered and drops the others', async () => {
    const policy = policyFor(`127.0.0.0/8:${server.port}`, { resolve: async () => ['127.0.0.2', '127.0.0.1'] });
    const info = await probeSource(`http://two.example:${server.port}/x`, policy, impatient);
    expect(info.target.addresses).to.deep.equal(['127.0.0.1']);
  });

  it('gives a wrong URI back before anything else', async () => {
    const error = (await expectDomainError(
      probe('http://x/#md5=1'),
      'INVALID_ARGUMENT',
      'fragment is not supported',
    )) satisfies DomainError;
    expect(error.details[0]).to.deep.include({ kind: 'badRequest' });
  });
});
