import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect } from 'chai';
import * as fc from 'fast-check';
import { probeSource, type ProbeOptions } from '../../../src/sources/probe.ts';
import { httpRangeSource, type RangeSource, type RangeSourceOptions } from '../../../src/sources/range-reader.ts';
import { startDelayingProxy } from '../../support/delaying-proxy.ts';
import { type Behaviour, startWebServer, type WebServer } from '../../support/web-server.ts';
import { makeAuthority } from '../../support/certificates.ts';
import { expectDomainError, expectTransientError, failure, impatient, patternBytes, policyFor, sameBytes } from './fixture.ts';

const content = patternBytes(3_000_000);
const headBytes = 65_536;

async function openSource(uri: string, options: RangeSourceOptions & ProbeOptions = {}): Promise<RangeSource> {
  const info = await probeSource(uri, policyFor(), { ...impatient, ...options });
  return httpRangeSource(info, { ...impatient, ...options });
}

async function read(source: RangeSource, start: number, end: number, signal?: AbortSignal): Promise<Uint8Array> {
  const target = new Uint8Array(end - start);
  await source.read(target, start, signal);
  return target;
}

const expectRange = async (source: RangeSource, start: number, end: number) =>
  expect(sameBytes(await read(source, start, end), content.subarray(start, end)), `bytes ${start} to ${end}`).to.equal(true);

describe('range reader', () => {
  let server: WebServer;
  beforeEach(async () => {
    server = await startWebServer({ content });
  });
  afterEach(() => server[Symbol.asyncDispose]());

  /** Requests after the probe's. */
  const ranges = () => server.requests.slice(1).map(({ range }) => range);

  it('reads any range, and takes what the probe has seen from memory', async () => {
    await using source = await openSource(server.url());
    expect(source.sizeBytes).to.equal(content.length);
    await expectRange(source, 0, headBytes);
    await expectRange(source, 100, 100);
    expect(source.requestCount).to.equal(0);
    await expectRange(source, headBytes - 1, headBytes + 1);
    await expectRange(source, content.length - 1, content.length);
    await expectRange(source, 0, content.length);
    expect(ranges()).to.deep.equal([
      { start: headBytes - 1, end: headBytes + 1 },
      { start: content.length - 1, end: content.length },
      { start: 0, end: content.length },
    ]);
    expect(source.bytesFetched).to.equal(3 + content.length);
    expect(server.requests.slice(1).every(({ headers }) => headers['if-match'] === '"v1"')).to.equal(true);
  });

  it('refuses a range outside of the source as the mistake that it is', async () => {
    await using source = await openSource(server.url());
    for (const [start, end] of [
      [-1, 5],
      [content.length - 1, content.length + 1],
      [1.5, 2.5],
    ] as const) {
      expect(await failure(source.read(new Uint8Array(end - start), start))).to.be.instanceOf(RangeError);
    }
  });

  it('reads the same at any offset and length, many at once', async () => {
    await using source = await openSource(server.url(), { partBytes: 700_000, maxConnections: 3 });
    const offsets = fc.array(fc.tuple(fc.nat(content.length), fc.nat(content.length)), { minLength: 1, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(offsets, async (pairs) => {
        await Promise.all(pairs.map(([one, other]) => expectRange(source, Math.min(one, other), Math.max(one, other))));
      }),
      { numRuns: 25 },
    );
    // One for the probe.
    expect(server.connectionCount).to.be.within(2, 4);
  });

  it('cuts long reads into parts that are fetched at once', async () => {
    await using source = await openSource(server.url(), { partBytes: 1_000_000 });
    await expectRange(source, 0, 2_500_000);
    const sorted = ranges().sort((one, other) => one!.start - other!.start);
    expect(sorted).to.deep.equal([
      { start: 0, end: 1_000_000 },
      { start: 1_000_000, end: 2_000_000 },
      { start: 2_000_000, end: 2_500_000 },
    ]);
  });

  it('fetches what would fill one segment of the loopback and a part of another in shorter ranges', async () => {
    await using source = await openSource(server.url());
    await expectRange(source, 100_000, 165_536);
    expect(ranges().sort((one, other) => one!.start - other!.start)).to.deep.equal([
      { start: 100_000, end: 160_000 },
      { start: 160_000, end: 165_536 },
    ]);
    await expectRange(source, 100_000, 160_000);
    await expectRange(source, 100_000, 240_000);
    expect(ranges().slice(2)).to.deep.equal([
      { start: 100_000, end: 160_000 },
      { start: 100_000, end: 240_000 },
    ]);
  });

  for (const [name, behaviour] of [
    ['in chunks', { length: 'chunked' }],
    ['up to the close', { length: 'untilClose' }],
  ] as [string, Behaviour][]) {
    it(`reads ranges that are sent ${name}`, async () => {
      server.behave(behaviour);
      await using source = await openSource(server.url());
      for (const start of [70_000, 1_000_000]) await expectRange(source, start, start + 900_000);
    });
  }

  it('ties requests to Last-Modified where there is no strong ETag', async () => {
    server.behave({ etag: 'W/"1"' });
    await using source = await openSource(server.url());
    await expectRange(source, 100_000, 300_000);
    expect(server.requests[1]!.headers).to.include({ 'if-unmodified-since': 'Sun, 02 Feb 2020 02:02:02 GMT' });
    expect(server.requests[1]!.headers).not.to.have.property('if-match');
  });

  it('uses one connection for a source without a validator', async () => {
    server.behave({ etag: null, lastModified: null });
    await using source = await openSource(server.url());
    await Promise.all([1, 2, 3, 4].map((index) => expectRange(source, index * 500_000, (index + 1) * 500_000)));
    expect(server.connectionCount).to.equal(2);
  });

  it('works in a thread from the posted answer of the probe, over its own connections', async () => {
    const authority = makeAuthority();
    await using secure = await startWebServer({ content, tls: authority.issue(['localhost']) });
    const info = await probeSource(secure.url(), policyFor(), { ...impatient, certificateAuthorities: authority.pem });
    const readerUrl = new URL('../../../src/sources/range-reader.ts', import.meta.url).href;
    const code = `
      import { parentPort, workerData } from 'node:worker_threads';
      import { httpRangeSource } from '${readerUrl}';
      await using source = httpRangeSource(workerData);
      const bytes = new Uint8Array(source.sizeBytes);
      await source.read(bytes, 0);
      parentPort.postMessage(bytes, [bytes.buffer]);`;
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), { workerData: info });
    const [bytes] = (await once(worker, 'message')) as [Uint8Array];
    await worker.terminate();
    expect(sameBytes(bytes, content)).to.equal(true);
  });

  it('has as many requests under way over a slow connection as it may', async () => {
    await using proxy = await startDelayingProxy({ port: server.port, oneWayMs: 10 });
    await using source = await openSource(`http://127.0.0.1:${proxy.port}/x`, { maxConnections: 6, partBytes: 100_000 });
    await expectRange(source, 0, 2_400_000);
    // One for the probe.
    expect(proxy.connectionCount).to.equal(7);
  });

  describe('trouble on the way', () => {
    for (const breakBy of ['close', 'reset'] as const) {
      it(`goes on at the byte where a ${breakBy} broke it, and fetches nothing twice`, async () => {
        server.behave(({ range }) => (range!.end - range!.start > 500_000 ? { breakAfterBytes: 300_000, breakBy } : {}));
        await using source = await openSource(server.url());
        await expectRange(source, 100_000, 1_100_000);
        // A reset may overtake bytes that were sent before it.
        if (breakBy === 'close') expect(ranges().map((range) => range!.start)).to.deep.equal([100_000, 400_000, 700_000]);
        expect(ranges().every((range) => range!.end === 1_100_000)).to.equal(true);
        expect(source.bytesFetched).to.equal(1_000_000);
      });
    }

    for (const status of [408, 429, 500, 503]) {
      it(`tries again after ${status}`, async () => {
        server.behave(({ index }) => (index > 0 && index < 4 ? { status, body: 'x' } : {}));
        await using source = await openSource(server.url());
        await expectRange(source, 100_000, 1_100_000);
        expect(source.requestCount).to.equal(4);
        expect(source.bytesFetched).to.equal(1_000_000);
      });
    }

    it('tries again after a stall', async () => {
      server.behave(({ index }) => (index === 1 ? { trickle: { bytes: 100, everyMs: 50 } } : {}));
      await using source = await openSource(server.url(), { timeouts: { stallMs: 1000, minimumRate: 100_000 } });
      await expectRange(source, 100_000, 1_100_000);
      expect(source.requestCount).to.equal(2);
      expect(source.bytesFetched).to.equal(1_000_000);
    });

    it('gives up when nothing comes any more, and says what happened', async () => {
      for (const [behaviour, text] of [
        [{ breakAfterBytes: 0 }, /broke off: the connection ended \d+ bytes before the end of the body; try again later$/],
        [{ breakAfterBytes: 10 }, /broke off: /],
        [{ status: 500, body: 'SECRET' }, /keeps answering 500 Internal Server Error; try again later$/],
      ] as [Behaviour, RegExp][]) {
        const before = server.requests.length;
        server.behave(({ index }) => (index === before ? {} : behaviour));
        await using source = await openSource(server.url('/x?SECRET'), { retry: { ...impatient.retry, maxAttempts: 4 } });
        const error = await expectTransientError(read(source, 100_000, 1_100_000), text);
        expect(error.message).not.to.contain('SECRET');
        expect(source.requestCount).to.equal(4);
      }
    });

    it('outlives a server that breaks every connection, as long as bytes come', async () => {
      server.behave({ breakAfterBytes: 100_000 });
      await using source = await openSource(server.url(), { retry: { ...impatient.retry, maxAttempts: 2 } });
      await expectRange(source, 1_000_000, 2_000_000);
      expect(source.requestCount).to.equal(10);
    });

    it('says so when the server is gone', async () => {
      await using source = await openSource(server.url());
      await server[Symbol.asyncDispose]();
      await expectTransientError(
        read(source, 100_000, 300_000),
        `Source server 127.0.0.1:${server.port} did not answer over http`,
      );
      server = await startWebServer({ content });
    });
  });

  describe('a source that is not what it was', () => {
    const changes: [name: string, behaviour: Behaviour, text: RegExp][] = [
      ['another ETag, and a server that looks at conditions', { etag: '"v2"' }, /it is not the version that was found first/],
      ['another ETag, and a server that does not', { etag: '"v2"', conditions: 'ignored' }, /its ETag is another one/],
      ['another length', { content: content.subarray(0, 2_000_000) }, /it has 2000000 bytes and had 3000000/],
      ['a length that no longer has the range', { content: content.subarray(0, 90_000) }, /it is shorter now/],
      ['the whole file instead of a range', { ranges: 'ignored' }, /the whole file was sent where a part was asked for/],
    ];
    for (const [name, behaviour, text] of changes) {
      it(`is refused at once: ${name}`, async () => {
        server.behave(({ index }) => (index < 2 ? {} : behaviour));
        await using source = await openSource(server.url('/x?SECRET'));
        await expectRange(source, 100_000, 300_000);
        const error = await expectDomainError(read(source, 200_000, 400_000), 'ABORTED', text);
        expect(error.message).to.match(/^Source \S+\/x changed while it was being read \(.*\); start the import again$/);
        expect(error.details).to.deep.equal([{ kind: 'errorInfo', reason: 'SOURCE_CHANGED' }]);
        expect(source.requestCount).to.equal(2);
      });
    }

    it('is refused when it changes between the parts of one broken range', async () => {
      server.behave(({ index }) => (index < 2 ? { breakAfterBytes: 200_000 } : { etag: '"v2"' }));
      await using source = await openSource(server.url());
      await expectDomainError(read(source, 100_000, 900_000), 'ABORTED', 'changed while it was being read');
    });

    it('is refused by its Last-Modified, and by a weak ETag', async () => {
      for (const [first, then, text] of [
        [{ etag: null }, { etag: null, lastModified: new Date('2021-01-01') }, /not the version that was found first/],
        [
          { etag: null },
          { etag: null, lastModified: new Date('2021-01-01'), conditions: 'ignored' },
          /its Last-Modified is another one/,
        ],
        [{ etag: 'W/"1"', lastModified: null }, { etag: 'W/"2"', lastModified: null }, /its ETag is another one/],
      ] as [Behaviour, Behaviour, RegExp][]) {
        const before = server.requests.length;
        server.behave(({ index }) => (index === before ? first : then));
        await using source = await openSource(server.url());
        await expectDomainError(read(source, 100_000, 300_000), 'ABORTED', text);
      }
    });

    const finals: [name: string, behaviour: Behaviour, text: RegExp][] = [
      ['gone', { status: 404 }, /answered 404 Not Found while it was being read: there is no such file$/],
      [
        'forbidden',
        { status: 403 },
        /answered 403 Forbidden while it was being read: .* the signature of the URL is wrong or has expired$/,
      ],
      ['moved', { redirect: { location: '/elsewhere' } }, /answered 302 Found while it was being read$/],
      ['encoded', { contentEncoding: 'gzip' }, /Content-Encoding "gzip"/],
      [
        'another range',
        { contentRange: (right) => right.replace(/\d+-/, '1-') },
        /bytes 100000 to 299999 were asked for and another range was sent$/,
      ],
      ['no range', { contentRange: () => 'x' }, /another range was sent$/],
      ['the range with a wrong length', { headers: { 'content-length': '99' } }, /another range was sent$/],
      ['no answer to a download', { status: 204 }, /answered 204 No Content while it was being read$/],
    ];
    for (const [name, behaviour, text] of finals) {
      it(`is refused at once: ${name}`, async () => {
        server.behave(({ index }) => (index === 0 ? {} : behaviour));
        await using source = await openSource(server.url('/x?SECRET'));
        const error = await expectDomainError(read(source, 100_000, 300_000), 'FAILED_PRECONDITION', text);
        expect(error.message).not.to.contain('SECRET');
        expect(source.requestCount).to.equal(1);
      });
    }
  });

  describe('a signed address that expires', () => {
    /** `/start` redirects to a signature that is good for `requestsEach` requests. */
    const expiring = (requestsEach: number, changed: Behaviour = {}) => {
      let signature = 0;
      let left = 0;
      server.behave(({ path }) => {
        if (path === '/start') {
          signature += 1;
          left = requestsEach;
          return { redirect: { location: `/signed?n=${signature}` } };
        }
        if (path !== `/signed?n=${signature}` || left === 0) return { status: 403 };
        left -= 1;
        return signature > 1 ? changed : {};
      });
    };

    it('is asked for anew at the original address, as often as bytes came in between', async () => {
      expiring(3);
      await using source = await openSource(server.url('/start'));
      for (let at = 100_000; at < 2_100_000; at += 200_000) await expectRange(source, at, at + 200_000);
      expect(server.requests.filter(({ path }) => path === '/start').length).to.equal(5);
    });

    it('is asked for once by all requests that met the refusal', async () => {
      expiring(5);
      await using source = await openSource(server.url('/start'), { partBytes: 200_000, maxConnections: 4 });
      for (const _ of [1, 2, 3, 4]) await expectRange(source, 100_000, 100_001);
      await expectRange(source, 100_000, 900_000);
      expect(server.requests.filter(({ path }) => path === '/start').length).to.equal(2);
    });

    it('is given up when the new one is refused as well', async () => {
      expiring(1);
      await using source = await openSource(server.url('/start'));
      await expectDomainError(read(source, 100_000, 300_000), 'FAILED_PRECONDITION', /403 Forbidden while it was being read/);
      expect(server.requests.filter(({ path }) => path === '/start').length).to.equal(2);
    });

    for (const [name, changed] of [
      ['version', { etag: '"v2"' }],
      ['length', { content: content.subarray(0, 2_000_000) }],
    ] as [string, Behaviour][]) {
      it(`is given up when it leads to another ${name}`, async () => {
        expiring(3, changed);
        await using source = await openSource(server.url('/start'));
        await expectRange(source, 100_000, 300_000);
        await expectRange(source, 100_000, 300_000);
        await expectDomainError(read(source, 100_000, 300_000), 'ABORTED', 'its URL leads to another file now');
      });
    }

    it('is judged by the policy again', async () => {
      await using other = await startWebServer({ content });
      server.behave(({ path, index }) => {
        if (path !== '/start') return index < 3 ? {} : { status: 403 };
        return { redirect: { location: index === 0 ? '/signed' : other.url() } };
      });
      const policy = policyFor(`127.0.0.1:${server.port}`);
      const info = await probeSource(server.url('/start'), policy, impatient);
      await using source = httpRangeSource(info, impatient);
      await expectRange(source, 100_000, 300_000);
      await expectDomainError(
        read(source, 100_000, 300_000),
        'FAILED_PRECONDITION',
        `address 127.0.0.1:${other.port} is not one`,
      );
      expect(other.connectionCount).to.equal(0);
    });
  });

  describe('abort', () => {
    const reason = new Error('cancelled');

    it('ends a read at once, in whatever state, and leaves the buffer alone', async () => {
      for (const behaviour of [
        { silent: true },
        { trickle: { bytes: 1000, everyMs: 5 } },
        { status: 503, headers: { 'retry-after': '60' } },
      ] satisfies Behaviour[]) {
        const before = server.requests.length;
        server.behave(({ index }) => (index === before ? {} : behaviour));
        await using source = await openSource(server.url(), { partBytes: 300_000, timeouts: { stallMs: 60_000 }, retry: {} });
        const abort = new AbortController();
        const target = new Uint8Array(1_000_000);
        const reading = failure(source.read(target, 100_000, abort.signal));
        while (server.requests.length < before + 2) await new Promise((resolve) => setImmediate(resolve));
        await new Promise((resolve) => setTimeout(resolve, 30));
        abort.abort(reason);
        expect(await reading).to.equal(reason);
        const after = target.slice();
        await new Promise((resolve) => setTimeout(resolve, 30));
        expect(sameBytes(target, after)).to.equal(true);
      }
    });

    it('does not disturb other reads', async () => {
      await using source = await openSource(server.url());
      const abort = new AbortController();
      const aborted = failure(read(source, 100_000, 2_000_000, abort.signal));
      const whole = read(source, 200_000, 2_100_000);
      abort.abort(reason);
      expect(await aborted).to.equal(reason);
      expect(sameBytes(await whole, content.subarray(200_000, 2_100_000))).to.equal(true);
    });

    it('of the source ends its reads and closes its connections', async () => {
      server.behave(({ index }) => (index === 0 ? {} : { trickle: { bytes: 1000, everyMs: 5 } }));
      const source = await openSource(server.url());
      const reading = failure(read(source, 100_000, 2_000_000));
      while (server.requests.length < 2) await new Promise((resolve) => setImmediate(resolve));
      await source[Symbol.asyncDispose]();
      expect((await reading).message).to.equal('the source was closed');
      while (server.openConnectionCount > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    });
  });

  it('is not made for a source without ranges', async () => {
    server.behave({ ranges: 'ignored' });
    expect((await failure(openSource(server.url()))).message).to.contain('without ranges');
  });
});
