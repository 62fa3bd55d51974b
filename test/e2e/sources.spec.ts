// Imports from servers as they are: behind proxies and private authorities, slow, forgetful and wrong; what the user is told of each;
// and what becomes of the signature in a URL.
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { status } from '@grpc/grpc-js';
import { expect } from 'chai';
import type { Operation } from '../../generated/yandex/cloud/operation/operation.ts';
import { type Authority, makeAuthority } from '../support/certificates.ts';
import { imageIdOf, ObrazClient } from '../support/client.ts';
import { type ConnectProxy, startConnectProxy } from '../support/connect-proxy.ts';
import { randomFrom, sampledIt, testSeed } from '../support/sample.ts';
import { Obraz } from '../support/obraz.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import { rows } from '../support/slow-import.ts';
import { blobDirectoryOf, openStoredImage } from '../support/stored-image.ts';
import { type Behaviour, type SeenRequest, startWebServer } from '../support/web-server.ts';

const MiB = 1024 * 1024;
const secret = 'SignatureThatNobodyMayRead';
/** An address of the public internet, which only the proxy of these tests leads to. */
const publicAddress = '198.41.0.4';

type Behaving = Behaviour | ((request: SeenRequest) => Behaviour);

const sampled = sampledIt({ of: 2 });

describe(`imports from all kinds of servers (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(180_000);
  const random = randomFrom(testSeed);
  const content = Buffer.alloc(9 * MiB + 512 * 3);
  for (let at = 0; at < content.length - 4; at += 512) content.writeUInt32LE(random() * 2 ** 32, at);

  const cleanUp = new AsyncDisposableStack();
  let database: TestDatabase;
  let obraz: Obraz;
  let client: ObrazClient;
  let authority: Authority;
  let proxy: ConnectProxy;
  let proxyStatus = 200;
  /** Where the proxy leads to, whatever is asked for. */
  let behindProxy = 0;

  before(async () => {
    database = cleanUp.adopt(await testDatabase(), (each) => each.dispose());
    const folder = cleanUp.adopt(await mkdtemp(path.join(tmpdir(), 'obraz-sources-')), (each) => rm(each, { recursive: true }));
    authority = makeAuthority();
    await writeFile(path.join(folder, 'ca.pem'), `A corporate authority\n${authority.pem}`);
    proxy = cleanUp.use(
      await startConnectProxy(
        () => proxyStatus,
        () => behindProxy,
      ),
    );
    obraz = cleanUp.use(
      await Obraz.start({
        environment: {
          DATABASE_URL: database.url,
          OBRAZ_IMPORT_CA_FILE: path.join(folder, 'ca.pem'),
          HTTPS_PROXY: proxy.url('user:pr0xyPassw0rd@'),
          HTTP_PROXY: proxy.url('user:pr0xyPassw0rd@'),
          NO_PROXY: 'intranet.example',
        },
      }),
    );
    client = cleanUp.use(await ObrazClient.of(obraz));
  });

  after(async () => {
    const { output } = obraz;
    await cleanUp.disposeAsync();
    expect(output).not.to.contain(secret).and.not.to.contain('pr0xyPassw0rd');
  });

  const create = (value: string): Promise<Operation> => client.createImage({ source: { $case: 'uri', value } });

  const expectImported = async (operation: Operation, bytes = content): Promise<void> => {
    const { id } = await client.image(operation);
    await using stored = await openStoredImage(database.url, blobDirectoryOf(obraz.dataDirectory), id);
    const read = Buffer.alloc(bytes.length);
    await stored.read(read, 0);
    expect(read.equals(bytes)).to.equal(true);
  };

  /** The error that the operation ends with; its image is gone. */
  const errorOf = async (operation: Operation): Promise<{ code: number; message: string }> => {
    const done = await client.wait(operation);
    if (done.result?.$case !== 'error') return expect.fail('the import ended well');
    const gone = await client.getImage(imageIdOf(operation)).catch((error: { code: number }) => error.code);
    expect(gone).to.equal(status.NOT_FOUND);
    return done.result.value;
  };

  describe('the proxies of the operator', () => {
    sampled('carry imports over http and https, to the checked address, and no others', async () => {
      proxyStatus = 200;
      await using plain = await startWebServer({ content });
      behindProxy = plain.port;
      await expectImported(await create(`http://${publicAddress}/disk.img?sig=${secret}`));
      expect(plain.requests[0]!.headers['host']).to.equal(publicAddress);
      await using secure = await startWebServer({ content, tls: authority.issue([publicAddress]) });
      behindProxy = secure.port;
      await expectImported(await create(`https://${publicAddress}/disk.img`));
      expect(new Set(proxy.asked.map(({ place }) => place))).to.deep.equal(
        new Set([`${publicAddress}:80`, `${publicAddress}:443`]),
      );
      expect(proxy.asked[0]!.authorization).to.equal(`Basic ${Buffer.from('user:pr0xyPassw0rd').toString('base64')}`);

      // This machine's own addresses are not the proxy's.
      const asked = proxy.asked.length;
      await expectImported(await create(plain.url()));
      expect(proxy.asked).to.have.length(asked);
    });

    sampled('are asked for nothing that the policy refuses, at the first hop or at the last', async () => {
      const asked = proxy.asked.length;
      const refused = await create('http://10.0.0.1/disk.img').catch((error: unknown) => error);
      expect(refused).to.have.property('code', status.INVALID_ARGUMENT);
      await using plain = await startWebServer({
        content,
        behaviour: { redirect: { location: 'http://169.254.169.254/latest/meta-data' } },
      });
      behindProxy = plain.port;
      expect((await errorOf(await create(`http://${publicAddress}/x`))).message).to.contain('169.254.169.254:80 is not one');
      expect(proxy.asked).to.have.length(asked + 1);
    });

    sampled('do not make a certificate of another name or authority good', async () => {
      for (const tls of [authority.issue(['localhost']), makeAuthority().issue([publicAddress])]) {
        await using secure = await startWebServer({ content, tls });
        behindProxy = secure.port;
        const { code, message } = await errorOf(await create(`https://${publicAddress}/x?sig=${secret}`));
        expect(code).to.equal(status.FAILED_PRECONDITION);
        expect(message).to.match(
          /^The certificate of source server 198\.41\.0\.4:443 is not trusted \([A-Z_]+\); .*OBRAZ_IMPORT_CA_FILE$/,
        );
      }
    });
  });

  sampled('reads over https from a server whose authority is in OBRAZ_IMPORT_CA_FILE', async () => {
    await using secure = await startWebServer({ content, tls: authority.issue(['localhost']) });
    const operation = await create(secure.url());
    // The name leads to an address of this machine, which only 127.0.0.1/32 opens.
    await expectImported(operation);
  });

  const well: [name: string, behaviour: Behaving][] = [
    ['refuses HEAD', { head: 'refused' }],
    ['ignores ranges', { ranges: 'ignored' }],
    ['ignores ranges and sends no length', { ranges: 'ignored', length: 'untilClose' }],
    ['refuses ranges with 416', { ranges: 416 }],
    ['has no ETag', { etag: null }],
    ['has a weak ETag alone', { etag: 'W/"1"', lastModified: null }],
    ['says nothing of its version', { etag: null, lastModified: null }],
    ['sends ranges in chunks', { length: 'chunked' }],
    ['answers 503 with Retry-After', ({ index }) => (index % 3 === 1 ? { status: 503, headers: { 'retry-after': '1' } } : {})],
    ['answers 429 and 500 now and then', ({ index }) => (index % 3 === 1 ? { status: index % 2 === 0 ? 429 : 500 } : {})],
    ['breaks connections', ({ index }) => (index % 2 === 1 ? { breakAfterBytes: 300_000, breakBy: 'reset' } : {})],
    [
      'redirects to a signature that expires',
      ({ path: asked, index }) => {
        if (!asked.startsWith('/signed')) return { redirect: { location: `/signed?n=${index}&sig=${secret}` } };
        // The one that the import began with is good for its first two requests.
        return asked.includes('n=0&') && index > 2 ? { status: 403 } : {};
      },
    ],
  ];
  for (const [name, behaviour] of well) {
    it(`imports from a server that ${name}`, async () => {
      await using web = await startWebServer({ content, behaviour });
      await expectImported(await create(web.url(`/disk.img?sig=${secret}`)));
    });
  }

  sampled('stores a RAW file as it comes, without a temporary copy, where the server has no ranges', async () => {
    let isOpen = false;
    const slowly: Behaviour = { ranges: 'ignored', trickle: { bytes: 64 * 1024, everyMs: 10 } };
    const big = Buffer.concat(Array.from({ length: 4 }, (_, index) => (content.writeUInt32LE(index, 0), Buffer.from(content))));
    await using web = await startWebServer({ content: big, behaviour: slowly });
    const operation = await create(web.url());
    while (!isOpen) {
      const files = await readdir(path.join(blobDirectoryOf(obraz.dataDirectory), 'chunks'), { recursive: true });
      expect(await readdir(path.join(obraz.dataDirectory, 'spool'))).to.deep.equal([]);
      // Their folders are there from the start.
      isOpen = files.some((file) => file.includes('/')) && web.bytesSent > 5 * 4 * MiB;
      if ((await client.getOperation(operation.id)).done) break;
    }
    await expectImported(operation, big);
  });

  it('imports from a quick server while another one is so slow that no chunk of it gets ready', async () => {
    const big = Buffer.alloc(80 * MiB, content.subarray(0, 4 * MiB + 512));
    await using slow = await startWebServer({ content: big, behaviour: { trickle: { bytes: 1024, everyMs: 100 } } });
    const first = await create(slow.url());
    const asked = slow.requests.length + 4;
    while (slow.requests.length < asked) await sleep(20);
    await using quick = await startWebServer({ content });
    await expectImported(await create(quick.url()));
    expect(slow.bytesSent).to.be.below(4 * MiB);
    await client.wait(await client.cancel(first.id));
  });

  sampled('refuses what its first bytes show at once, however long it is', async () => {
    const packed = Buffer.concat([gzipSync('x'), Buffer.alloc(64 * MiB, 1)]);
    const behaviour: Behaviour = { ranges: 'ignored', trickle: { bytes: 256 * 1024, everyMs: 20 } };
    await using web = await startWebServer({ content: packed, behaviour });
    expect((await errorOf(await create(web.url()))).message).to.match(/^uri: the file is compressed with gzip, .*gunzip/);
    expect(web.bytesSent).to.be.below(packed.length / 2);
  });

  const final: [name: string, behaviour: Behaving, code: status, message: RegExp][] = [
    ['401', { status: 401 }, status.FAILED_PRECONDITION, /answered 401 Unauthorized: it asks for credentials; use a signed URL$/],
    ['410', { status: 410 }, status.FAILED_PRECONDITION, /answered 410 Gone: the file is gone$/],
    [
      'a signature that has expired on the way',
      ({ index }) => (index < 2 ? {} : { status: 403 }),
      status.FAILED_PRECONDITION,
      /answered 403 Forbidden while it was being read: access is forbidden, or the signature of the URL is wrong or has expired$/,
    ],
    [
      'a wrong Content-Range',
      ({ index }) => (index < 2 ? {} : { contentRange: (right) => right.replace(/\d+-/, '1-') }),
      status.FAILED_PRECONDITION,
      /sent a wrong answer: bytes \d+ to \d+ were asked for and another range was sent$/,
    ],
    [
      'the whole file instead of a range, half-way',
      ({ index }) => (index < 2 ? {} : { ranges: 'ignored' }),
      status.ABORTED,
      /changed while it was being read \(the whole file was sent where a part was asked for\); start the import again$/,
    ],
    [
      'another file, half-way',
      ({ index }) => (index < 2 ? {} : { content: content.subarray(0, 5 * MiB) }),
      status.ABORTED,
      /changed while it was being read \(it (has 5242880 bytes and had 9438720|is shorter now)\); start the import again$/,
    ],
    [
      'gzip as Content-Encoding',
      { contentEncoding: 'gzip' },
      status.FAILED_PRECONDITION,
      /is sent with Content-Encoding "gzip" although it was asked for plain; serve the file as it is$/,
    ],
    ['nothing', { content: new Uint8Array(0) }, status.FAILED_PRECONDITION, /is empty$/],
    ['redirects without end', { redirect: { location: '/again' } }, status.FAILED_PRECONDITION, /redirects more than 5 times$/],
    [
      'less than it announces, every time',
      { ranges: 'ignored', breakAfterBytes: 2 * MiB },
      status.FAILED_PRECONDITION,
      /sent a wrong answer: 9438720 bytes were announced and only 2097152 were sent, 4 times alike$/,
    ],
    [
      'an XML page of errors as the file',
      { content: Buffer.from('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>') },
      status.INVALID_ARGUMENT,
      /^uri: .*XML/,
    ],
  ];
  for (const [name, behaviour, code, message] of final) {
    it(`says so when a server answers ${name}`, async () => {
      await using web = await startWebServer({ content, behaviour });
      const error = await errorOf(await create(web.url(`/disk.img?sig=${secret}`)));
      expect(error.message).to.match(message).and.not.contain(secret);
      expect(error.code).to.equal(code);
    });
  }

  for (const algorithm of ['sha256', 'sha512'] as const) {
    sampled(`takes #${algorithm}= for what the file must hash to, and tells both when it does not`, async () => {
      const hex = createHash(algorithm).update(content).digest('hex');
      await using web = await startWebServer({
        content,
        behaviour: ({ index }) => (index === 1 ? { breakAfterBytes: 3 * MiB } : {}),
      });
      await expectImported(await create(`${web.url(`/x?sig=${secret}`)}#${algorithm}=${hex.toUpperCase()}`));
      const other = '0'.repeat(hex.length);
      const { message } = await errorOf(await create(`${web.url(`/x?sig=${secret}`)}#${algorithm}=${other}`));
      expect(message).to.match(
        new RegExp(`has the ${algorithm} ${hex}, and the URI asks for ${other}: the file is not the expected one$`),
      );
    });
  }

  sampled('keeps a signed URL in the row of the job alone, and forgets it however the import ends', async () => {
    for (const ending of ['cancelled', 'failed', 'done'] as const) {
      let isOpen = false;
      const slowly: Behaviour = { trickle: { bytes: 16 * 1024, everyMs: 20 }, breakAfterBytes: MiB };
      await using web = await startWebServer({
        content,
        behaviour: () => (!isOpen ? slowly : ending === 'failed' ? { status: 404 } : {}),
      });
      const operation = await create(web.url(`/x?sig=${secret}`));
      expect(JSON.stringify(operation.metadata?.value.toString())).not.to.contain(secret);
      expect(await tablesWith(secret)).to.deep.equal(['jobs']);
      isOpen = true;
      if (ending === 'cancelled') await client.cancel(operation.id);
      const done = await client.wait(operation);
      expect(done.result?.$case).to.equal(ending === 'done' ? 'response' : 'error');
      expect(
        Buffer.concat([done.metadata!.value, Buffer.from(JSON.stringify(done.result?.value ?? null, jsonable))]).includes(secret),
      ).to.equal(false);
      expect(await tablesWith(secret), ending).to.deep.equal([]);
    }
  });

  const jsonable = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? String(value) : value);

  /** Tables that hold a text anywhere, as text or as bytes. */
  async function tablesWith(text: string): Promise<string[]> {
    const tables = await rows<{ name: string }>(
      database.url,
      `select table_name as name from information_schema.tables where table_schema = 'public'`,
    );
    const found: string[] = [];
    for (const { name } of tables) {
      const hits = await rows(
        database.url,
        `select 1 from "${name}" as each where each::text like $1 or each::text like $2 limit 1`,
        [`%${text}%`, `%${Buffer.from(text).toString('hex')}%`],
      );
      if (hits.length > 0) found.push(name);
    }
    return found.sort();
  }
});
