import { expect } from 'chai';
import * as fc from 'fast-check';
import { type ClientOptions, HttpClient, type Response } from '../../../../src/sources/wire/http-client.ts';
import { WireError } from '../../../../src/sources/wire/wire-error.ts';
import type { Target } from '../../../../src/sources/url-policy.ts';
import { startWebServer } from '../../../support/web-server.ts';
import { type Authority, makeAuthority } from '../../../support/certificates.ts';
import { failure, patternBytes, sameBytes } from '../fixture.ts';
import { type RawServer, startRawServer } from '../raw-server.ts';

const targetFor = (port: number, overrides: Partial<Target> = {}): Target => ({
  protocol: 'http:',
  hostname: 'source.example',
  addressFamily: 0,
  port,
  path: '/x?y=z',
  addresses: ['127.0.0.1'],
  servername: 'source.example',
  hostHeader: `source.example:${port}`,
  ...overrides,
});

const clientFor = (server: { port: number }, overrides: Partial<Target> = {}, options: Partial<ClientOptions> = {}) =>
  new HttpClient(targetFor(server.port, overrides), {
    maxConnections: 4,
    ...options,
    timeouts: { connectMs: 2000, responseMs: 2000, stallMs: 2000, ...options.timeouts },
  });

/** The whole body, read in steps of `stepBytes`. */
async function readAll({ body }: Pick<Response, 'body'>, stepBytes = 1000): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (;;) {
    const step = new Uint8Array(stepBytes);
    const byteCount = await body.read(step);
    if (byteCount === 0) return Buffer.concat(parts);
    parts.push(step.subarray(0, byteCount));
  }
}

const readText = async (response: Response): Promise<string> => Buffer.from(await readAll(response)).toString('latin1');

async function expectWireError(promise: Promise<unknown>, kind: WireError['kind'], text: RegExp = /./): Promise<void> {
  const error = await failure(promise);
  expect(error, error.stack).to.be.instanceOf(WireError);
  expect(`${(error as WireError).kind}: ${error.message}`).to.match(new RegExp(`^${kind}: .*${text.source}`));
}

/** Answers every request with `text`, then closes when told to. */
const answering = (text: string, thenClose = false): Promise<RawServer> =>
  startRawServer((_head, _index, socket) => {
    if (!thenClose) return text;
    socket.end(Buffer.from(text, 'latin1'));
  });

describe('HTTP client', () => {
  it('sends one strict GET with the host of the URL to the checked address', async () => {
    await using server = await answering('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    await using client = clientFor(server);
    expect(await client.get({ range: 'bytes=0-1' }, readText)).to.equal('ok');
    const lines = server.requests[0]!.trimEnd().split('\r\n');
    expect(lines).to.deep.equal([
      'GET /x?y=z HTTP/1.1',
      `host: source.example:${server.port}`,
      'accept: */*',
      'accept-encoding: identity',
      'user-agent: obraz',
      'range: bytes=0-1',
    ]);
  });

  it('cannot be made to send a second line by a header value', async () => {
    await using server = await answering('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    await using client = clientFor(server);
    const error = await failure(client.get({ 'if-match': '"a"\r\nX: y' }, readText));
    expect(error.message).to.contain('cannot be sent');
    expect(server.requests).to.have.length(0);
  });

  it('keeps connections, and opens no more than it may', async () => {
    await using server = await startWebServer({ content: patternBytes(10_000) });
    await using client = clientFor(server, {}, { maxConnections: 3 });
    for (let round = 0; round < 4; round += 1) {
      await Promise.all(Array.from({ length: 12 }, () => client.get({}, (response) => readAll(response))));
    }
    expect(server.requests).to.have.length(48);
    expect(server.connectionCount).to.be.within(1, 3);
  });

  it('asks again on a new connection when the kept one was closed meanwhile', async () => {
    await using server = await startRawServer((_head, index, socket) => {
      if (index === 1) socket.destroy();
      else return 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
    });
    await using client = clientFor(server);
    expect(await client.get({}, readText)).to.equal('ok');
    expect(await client.get({}, readText)).to.equal('ok');
    expect(server.connectionCount).to.equal(2);
  });

  it('does not keep a connection whose body was left unread, or on which more came than was announced', async () => {
    await using server = await startWebServer({ content: patternBytes(5_000_000) });
    await using client = clientFor(server);
    await client.get({}, async () => {});
    await client.get({}, async () => {});
    expect(server.connectionCount).to.equal(2);
    await using generous = await answering('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!!');
    await using other = clientFor(generous);
    for (const _ of [1, 2, 3]) expect(await other.get({}, readText)).to.equal('ok');
    expect(generous.connectionCount).to.equal(3);
  });

  it('passes over interim responses, but not over any number of them', async () => {
    const early = 'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n';
    await using server = await startRawServer((_head, index) =>
      index === 0 ? `${early}${early}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok` : early.repeat(100),
    );
    await using client = clientFor(server);
    expect(await client.get({}, readText)).to.equal('ok');
    await expectWireError(client.get({}, readText), 'malformed', /interim responses/);
  });

  it('refuses to change protocols', async () => {
    await using server = await answering('HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n');
    await using client = clientFor(server);
    await expectWireError(client.get({}, readText), 'malformed', /another protocol/);
  });

  it('accepts a head of up to 64 KiB and no longer one', async () => {
    const start = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: ';
    const most = 65_536 - start.length - 4;
    for (const [length, fits] of [
      [most, true],
      [most + 1, false],
      [300_000, false],
    ] as const) {
      await using server = await answering(`${start}${'a'.repeat(length)}\r\n\r\nok`);
      await using client = clientFor(server);
      if (fits) expect(await client.get({}, readText)).to.equal('ok');
      else await expectWireError(client.get({}, readText), 'malformed', /longer than 65536 bytes/);
    }
  });

  it('refuses conflicting framing', async () => {
    await using server = await answering('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok');
    await using client = clientFor(server);
    await expectWireError(client.get({}, readText), 'malformed', /both Content-Length/);
  });

  describe('bodies', () => {
    const bodies: [name: string, text: string, body: string, thenClose: boolean][] = [
      ['of a length', 'Content-Length: 5\r\n\r\nhello', 'hello', false],
      ['of no length, up to the close', '\r\nhello', 'hello', true],
      ['in chunks', 'Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;name="value"\r\nllo\r\n0\r\n\r\n', 'hello', false],
      [
        'in chunks with padded sizes and trailers',
        'Transfer-Encoding: chunked\r\n\r\n0005  \r\nhello\r\n000\r\nA: b\r\nC: d\r\n\r\n',
        'hello',
        false,
      ],
      ['of nothing', 'Content-Length: 0\r\n\r\n', '', false],
      ['of no chunks', 'Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n', '', false],
    ];
    for (const [name, text, body, thenClose] of bodies) {
      it(`${name} are read`, async () => {
        await using server = await answering(`HTTP/1.1 200 OK\r\n${text}`, thenClose);
        await using client = clientFor(server);
        for (const _ of [1, 2]) expect(await client.get({}, readText)).to.equal(body);
        expect(server.connectionCount).to.equal(thenClose ? 2 : 1);
      });
    }

    const wrong: [name: string, text: string, kind: WireError['kind'], error: RegExp][] = [
      ['end early', 'Content-Length: 10\r\n\r\nhello', 'broken', /5 bytes before the end/],
      ['end within a chunk', 'Transfer-Encoding: chunked\r\n\r\na\r\nhello', 'broken', /5 bytes before the end/],
      ['end before the last chunk', 'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n', 'broken', /within a chunked body/],
      ['end within a chunk size', 'Transfer-Encoding: chunked\r\n\r\n5', 'broken', /ended early/],
      ['have a chunk without a size', 'Transfer-Encoding: chunked\r\n\r\nhello\r\n', 'malformed', /without its size/],
      ['have a negative chunk', 'Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n', 'malformed', /without its size/],
      ['have an endless chunk', 'Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello', 'malformed', /without its size/],
      [
        'have a chunk longer than it says',
        'Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n',
        'malformed',
        /longer than it says/,
      ],
      [
        'have a chunk size without an end',
        `Transfer-Encoding: chunked\r\n\r\n5;${'a'.repeat(5000)}`,
        'malformed',
        /longer than 4096/,
      ],
      [
        'have endless trailers',
        `Transfer-Encoding: chunked\r\n\r\n0\r\n${'A: b\r\n'.repeat(20_000)}`,
        'malformed',
        /trailers are too long/,
      ],
    ];
    for (const [name, text, kind, error] of wrong) {
      it(`that ${name} are refused`, async () => {
        await using server = await answering(`HTTP/1.1 200 OK\r\n${text}`, true);
        await using client = clientFor(server);
        await expectWireError(client.get({}, readText), kind, error);
      });
    }

    it('are the same whatever the sizes of chunks, packets and reads', async () => {
      const bytes = patternBytes(300_000);
      let wire: Buffer[] = [];
      await using server = await startRawServer((_head, _index, socket) => {
        socket.setNoDelay(true);
        void (async () => {
          for (const packet of wire) {
            socket.write(packet);
            await new Promise((resolve) => setImmediate(resolve));
          }
        })();
        return undefined;
      });
      await using client = clientFor(server);
      const sizes = fc.array(fc.integer({ min: 1, max: 90_000 }), { minLength: 1, maxLength: 6 });
      await fc.assert(
        fc.asyncProperty(
          sizes,
          sizes,
          fc.integer({ min: 1, max: 400_000 }),
          fc.boolean(),
          async (chunks, packets, step, chunked) => {
            const stream: Uint8Array[] = [Buffer.from('HTTP/1.1 200 OK\r\n')];
            stream.push(Buffer.from(chunked ? 'Transfer-Encoding: chunked\r\n\r\n' : `Content-Length: ${bytes.length}\r\n\r\n`));
            if (!chunked) stream.push(bytes);
            else {
              for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
                const chunk = bytes.subarray(at, at + chunks[turn % chunks.length]!);
                stream.push(Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n'));
                at += chunk.length;
              }
              stream.push(Buffer.from('0\r\n\r\n'));
            }
            const all = Buffer.concat(stream);
            wire = [];
            for (let at = 0, turn = 0; at < all.length; turn += 1) {
              const packet = all.subarray(at, at + packets[turn % packets.length]! + 500);
              wire.push(packet);
              at += packet.length;
            }
            const received = await client.get({}, (response) => readAll(response, Math.max(step, 200)));
            expect(sameBytes(received, bytes)).to.equal(true);
          },
        ),
        { numRuns: 40 },
      );
      expect(server.connectionCount).to.equal(1);
    });
  });

  describe('trouble', () => {
    const isOneText = async (promise: Promise<unknown>) => {
      const error = await failure(promise);
      expect(error).to.be.instanceOf(WireError).with.property('kind', 'unreachable');
    };

    it('is one and the same for a closed port, a silent one, one that hangs up and one that speaks something else', async () => {
      await using gone = await startRawServer(() => undefined);
      await gone[Symbol.asyncDispose]();
      await using silent = await startRawServer(() => undefined);
      await using ssh = await answering('SSH-2.0-OpenSSH_9.2\r\n');
      await using garbage = await answering('\u0000\u0001\u0002'.repeat(30_000));
      await using hangsUp = await answering('', true);
      for (const server of [gone, silent, ssh, garbage, hangsUp]) {
        await using client = clientFor(server, {}, { timeouts: { responseMs: 50 } });
        await isOneText(client.get({}, readText));
        await using secure = clientFor(server, { protocol: 'https:' }, { timeouts: { connectMs: 50 } });
        await isOneText(secure.get({}, readText));
      }
    });

    it('is a broken connection when a web server that answered before stays silent', async () => {
      await using server = await startRawServer((_head, index) =>
        index === 0 ? 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok' : undefined,
      );
      await using client = clientFor(server, {}, { timeouts: { responseMs: 1000 } });
      await client.get({}, readText);
      await expectWireError(client.get({}, readText), 'broken', /no answer within 1 s/);
    });

    it('is a stall when bytes stop coming, or trickle', async () => {
      await using stopped = await answering('HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhello');
      await using client = clientFor(stopped, {}, { timeouts: { stallMs: 50 } });
      await expectWireError(client.get({}, readText), 'broken', /only 0 bytes arrived in 0.05 s/);
      await using trickling = await startWebServer({
        content: patternBytes(100_000),
        behaviour: { trickle: { bytes: 1, everyMs: 20 } },
      });
      await using patient = clientFor(trickling, {}, { timeouts: { stallMs: 200 } });
      await expectWireError(patient.get({}, readText), 'broken', /only \d+ bytes arrived in 0.2 s/);
    });

    it('is none when the reader itself is slow', async () => {
      const bytes = patternBytes(3_000_000);
      await using server = await startWebServer({ content: bytes });
      await using client = clientFor(server, {}, { timeouts: { stallMs: 500 } });
      const received = await client.get({}, async (response) => {
        await new Promise((resolve) => setTimeout(resolve, 1200));
        return readAll(response, 1_000_000);
      });
      expect(sameBytes(received, bytes)).to.equal(true);
    });

    it('is known only after the bytes that came before it', async () => {
      await using server = await startWebServer({
        content: patternBytes(5000),
        behaviour: { breakAfterBytes: 1234, breakBy: 'reset' },
      });
      await using client = clientFor(server);
      let received = 0;
      const error = await failure(
        client.get({}, async ({ body }) => {
          for (;;) received += await body.read(new Uint8Array(4000));
        }),
      );
      expect(received).to.equal(1234);
      expect(error).to.be.instanceOf(WireError).with.property('kind', 'broken');
    });

    it('tries the addresses in turn, and says which one answered', async () => {
      await using server = await answering('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      await using client = clientFor(server, { addresses: ['127.0.0.2', '127.0.0.1'] });
      expect(await client.get({}, async (response) => response.address)).to.equal('127.0.0.1');
    });
  });

  describe('abort', () => {
    const reason = new Error('cancelled');

    it('ends a wait for a connection, a slot, an answer and bytes at once, with its reason', async () => {
      await using silent = await startRawServer(() => undefined);
      await using stopped = await answering('HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhello');
      for (const server of [silent, stopped]) {
        await using client = clientFor(server, {}, { maxConnections: 1 });
        const abort = new AbortController();
        const waiting = [1, 2].map(() => failure(client.get({}, readText, abort.signal)));
        while (server.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
        abort.abort(reason);
        expect(await Promise.all(waiting)).to.deep.equal([reason, reason]);
        expect(await failure(client.get({}, readText, AbortSignal.abort(reason)))).to.equal(reason);
      }
    });

    it('leaves the buffer alone once the read has failed', async () => {
      await using server = await startWebServer({ content: new Uint8Array(30_000_000).fill(7) });
      await using client = clientFor(server);
      const target = new Uint8Array(30_000_000);
      const abort = new AbortController();
      const error = await failure(
        client.get(
          {},
          async ({ body }) => {
            await body.read(target.subarray(0, 1000));
            setImmediate(() => abort.abort(reason));
            for (let filled = 1000; filled < target.length;) filled += await body.read(target.subarray(filled));
          },
          abort.signal,
        ),
      );
      expect(error).to.equal(reason);
      const before = target.slice();
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(sameBytes(target, before)).to.equal(true);
    });

    it('is what closing the client does to its requests', async () => {
      await using server = await startRawServer(() => undefined);
      const client = clientFor(server);
      const waiting = failure(client.get({}, readText));
      while (server.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
      await client[Symbol.asyncDispose]();
      expect((await waiting).message).to.equal('the source was closed');
    });
  });

  describe('TLS', () => {
    let authority: Authority;
    before(() => {
      authority = makeAuthority();
    });
    const secureTarget = { protocol: 'https:', servername: 'localhost', hostname: 'localhost' } as const;

    it('reads over a certificate of an authority that was added', async () => {
      const bytes = patternBytes(3_000_000);
      await using server = await startWebServer({ content: bytes, tls: authority.issue(['localhost']) });
      await using client = clientFor(server, secureTarget, { certificateAuthorities: authority.pem });
      for (const stepBytes of [1_000_000, 100_000, 777]) {
        const received = await client.get({}, (response) => readAll(response, stepBytes));
        expect(sameBytes(received, bytes)).to.equal(true);
      }
      expect(server.connectionCount).to.equal(1);
      server.behave({ length: 'chunked' });
      expect(sameBytes(await client.get({}, (response) => readAll(response, 65_537)), bytes)).to.equal(true);
    });

    it('checks the certificate against an address when the URL names one', async () => {
      await using server = await startWebServer({ content: new Uint8Array(5), tls: authority.issue(['127.0.0.1']) });
      const address = { protocol: 'https:', hostname: '127.0.0.1', addressFamily: 4, servername: undefined } as const;
      await using client = clientFor(server, address, { certificateAuthorities: authority.pem });
      expect(await client.get({}, async ({ head }) => head.status)).to.equal(200);
    });

    it('names the reason when the certificate is of an unknown authority, of another name, or too old', async () => {
      const foreign = makeAuthority();
      for (const [issued, reason] of [
        [foreign.issue(['localhost']), /UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED/],
        [authority.issue(['other.example']), /ERR_TLS_CERT_ALTNAME_INVALID/],
        [authority.issue(['localhost'], new Date(Date.now() - 86_400_000)), /CERT_HAS_EXPIRED/],
      ] as const) {
        await using server = await startWebServer({ content: new Uint8Array(5), tls: issued });
        await using client = clientFor(server, secureTarget, { certificateAuthorities: authority.pem });
        await expectWireError(client.get({}, readText), 'untrusted', reason);
        expect(server.requests).to.have.length(0);
      }
    });

    it('trusts no unknown authority even where the environment says so', async () => {
      await using server = await startWebServer({ content: new Uint8Array(5), tls: authority.issue(['localhost']) });
      const before = process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
      process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
      try {
        await using client = clientFor(server, secureTarget);
        await expectWireError(client.get({}, readText), 'untrusted');
      } finally {
        if (before === undefined) delete process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
        else process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = before;
      }
    });
  });
});
