import { type ClientHttp2Session, connect as connectHttp2, constants } from 'node:http2';
import { type Socket, connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { credentials, status as codes } from '@grpc/grpc-js';
import { expect } from 'chai';
import { Image } from '../../../generated/yandex/cloud/compute/v1/image.ts';
import { GetImageRequest, ImageServiceClient } from '../../../generated/yandex/cloud/compute/v1/image_service.ts';
import type { GrpcServerOptions } from '../../../src/transport/server.ts';
import { startGrpcServer } from '../../../src/transport/server.ts';
import { createLog } from '../../../src/platform/log.ts';
import { createCertificateAuthority, issueServerCertificate } from '../../../src/transport/tls.ts';
import { type TestServer, type TestServerOptions, callRaw, headers, startTestServer, until } from './test-server.ts';

const getRequest = {
  path: '/yandex.cloud.compute.v1.ImageService/Get',
  request: GetImageRequest.encode({ imageId: 'fd8' }).finish(),
};

describe('The gRPC server', () => {
  let test: TestServer | undefined;
  afterEach(async () => {
    await test?.stop();
    test = undefined;
  });

  const start = async (options: TestServerOptions = {}): Promise<TestServer> => {
    test = await startTestServer({ images: { get: async ({ imageId }) => Image.fromPartial({ id: imageId }) }, ...options });
    return test;
  };

  const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(':') + 1));

  async function withTls() {
    const authority = await createCertificateAuthority();
    const certificate = await issueServerCertificate(authority, ['localhost', '127.0.0.1']);
    const seen: { secure: boolean; authority: string }[] = [];
    const started = await start({
      tls: { address: '127.0.0.1:0', ...certificate },
      // Longer than a test may take: what waits for it fails.
      graceMs: 600_000,
      images: {
        get: async ({ imageId }, { secure, authority: host }) => {
          seen.push({ secure, authority: host });
          return Image.fromPartial({ id: imageId });
        },
      },
    });
    return { authority, seen, started, tlsAddress: started.server.tlsAddress! };
  }

  const getWith = (client: ImageServiceClient): Promise<Image> =>
    new Promise((resolve, reject) =>
      client.get({ imageId: 'fd8' }, headers(), (error, image) => (error === null ? resolve(image) : reject(error))),
    );

  function tlsSocket(address: string, options: object): Promise<TLSSocket> {
    return new Promise((resolve, reject) => {
      const socket = connectTls({ host: '127.0.0.1', port: portOf(address), servername: 'localhost', ...options }, () =>
        resolve(socket),
      );
      socket.once('error', reject);
    });
  }

  it('serves plain and over TLS, and tells methods which, and under which name', async () => {
    const { authority, seen, started, tlsAddress } = await withTls();
    const secure = new ImageServiceClient(
      `localhost:${portOf(tlsAddress)}`,
      credentials.createSsl(Buffer.from(authority.certificate)),
    );
    expect(await getWith(secure)).to.include({ id: 'fd8' });
    expect(await getWith(started.images)).to.include({ id: 'fd8' });
    secure.close();
    expect(seen).to.deep.equal([
      { secure: true, authority: `localhost:${portOf(tlsAddress)}` },
      { secure: false, authority: started.address },
    ]);
  });

  it('speaks h2 by ALPN, from TLS 1.2 on, and refuses other protocols', async () => {
    const { authority, tlsAddress } = await withTls();
    const ca = authority.certificate;
    const socket = await tlsSocket(tlsAddress, { ca, ALPNProtocols: ['h2', 'http/1.1'] });
    expect([socket.alpnProtocol, socket.authorized]).to.deep.equal(['h2', true]);
    socket.destroy();
    const old = await tlsSocket(tlsAddress, { ca, ALPNProtocols: ['http/1.1'] }).catch((error: NodeJS.ErrnoException) => error);
    expect(old).to.include({ code: 'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL' });
    const ancient = await tlsSocket(tlsAddress, { ca, maxVersion: 'TLSv1.1', minVersion: 'TLSv1' }).catch(
      (error: Error) => error,
    );
    expect(ancient).to.be.instanceOf(Error);
  });

  it('replaces its certificate for new connections while it runs, and keeps the old one when the new one is bad', async () => {
    const { authority, started, tlsAddress } = await withTls();
    const open = new ImageServiceClient(
      `localhost:${portOf(tlsAddress)}`,
      credentials.createSsl(Buffer.from(authority.certificate)),
    );
    await getWith(open);
    const serial = async (): Promise<string> => {
      const socket = await tlsSocket(tlsAddress, { ca: authority.certificate });
      const { serialNumber } = socket.getPeerCertificate();
      socket.destroy();
      return serialNumber;
    };
    const first = await serial();
    const next = await issueServerCertificate(authority, ['localhost']);
    started.server.replaceCertificate(next);
    const second = await serial();
    expect(second).to.not.equal(first);
    const other = await issueServerCertificate(authority, ['localhost']);
    expect(() => started.server.replaceCertificate({ certificate: next.certificate, key: other.key })).to.throw(
      'key values mismatch',
    );
    expect(() => started.server.replaceCertificate({ certificate: 'x', key: 'y' })).to.throw();
    expect(await serial()).to.equal(second);
    await getWith(open);
    open.close();
  });

  it('names the real port where 0 was asked for, also of IPv6', async function () {
    const hasIpv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === '::1'));
    if (!hasIpv6) {
      console.warn('SKIPPED: this machine has no ::1');
      this.skip();
    }
    const { address } = await start({ plaintextAddress: '[::1]:0' });
    expect(address).to.match(/^\[::1\]:[1-9]\d*$/);
    expect((await callRaw(test!.client(), { ...getRequest })).error).to.equal(undefined);
  });

  it('says in words why it cannot listen, and leaves nothing open', async () => {
    const { address } = await start();
    const failure = async (options: Partial<GrpcServerOptions>): Promise<Error | undefined> =>
      startGrpcServer({ services: [], log: createLog({ level: 'silent' }), ...options }).then(
        () => undefined,
        (error: Error) => error,
      );
    expect(await failure({ plaintextAddress: address })).to.include({
      name: 'StartError',
      message: `cannot listen on ${address}: another program listens there`,
    });
    expect((await failure({ plaintextAddress: '192.0.2.1:0' }))?.message).to.equal(
      'cannot listen on 192.0.2.1:0: this machine does not have the address',
    );
    expect((await failure({ plaintextAddress: 'no-such-host.invalid:0' }))?.name).to.equal('StartError');
    const authority = await createCertificateAuthority();
    const certificate = await issueServerCertificate(authority, ['localhost']);
    expect(await failure({ plaintextAddress: '127.0.0.1:0', tls: { address, ...certificate } })).to.include({
      name: 'StartError',
    });
  });

  describe('bears', () => {
    let session: ClientHttp2Session;
    let goaways: number[];

    const connectRaw = async (): Promise<void> => {
      const { address } = await start();
      session = connectHttp2(`http://${address}`);
      goaways = [];
      session.on('goaway', (code) => goaways.push(code));
      session.on('error', () => {});
      await new Promise((resolve) => session.once('remoteSettings', resolve));
    };
    afterEach(() => session.destroy());

    const isServing = async (): Promise<boolean> => (await callRaw(test!.client(), getRequest)).error === undefined;

    it('pings without calls as often as a client likes, without GOAWAY', async () => {
      await connectRaw();
      for (let count = 0; count < 300; count += 1) {
        await new Promise<void>((resolve, reject) => session.ping((error) => (error === null ? resolve() : reject(error))));
      }
      expect([goaways, session.closed, session.destroyed]).to.deep.equal([[], false, false]);
    });

    it('a grpc-js client that pings every second without calls, as the Go SDK may', async () => {
      const { address } = await start();
      session = connectHttp2(`http://${address}`); // for afterEach
      const client = test!.client({
        'grpc.keepalive_time_ms': 1_000,
        'grpc.keepalive_timeout_ms': 20_000,
        'grpc.keepalive_permit_without_calls': 1,
      });
      await callRaw(client, getRequest);
      const peer = test!.lines[0]!['peer'];
      await new Promise((resolve) => setTimeout(resolve, 3_500));
      await callRaw(client, getRequest);
      // The same connection: its port is the client's.
      expect(test!.lines[1]!['peer']).to.equal(peer);
    });

    it('what is not HTTP/2', async () => {
      await connectRaw();
      for (const bytes of [
        'GET / HTTP/1.1\r\nHost: a\r\n\r\n',
        '\x16\x03\x01\x02',
        'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense'.repeat(10),
      ]) {
        const socket = connect(portOf(test!.address), '127.0.0.1');
        socket.on('error', () => {});
        const closed = new Promise((resolve) => socket.once('close', resolve));
        socket.resume();
        socket.end(bytes);
        await closed;
      }
      expect(await isServing()).to.equal(true);
    });

    it('calls that are no gRPC, and paths that are no methods', async () => {
      await connectRaw();
      const answerTo = (more: Record<string, string>): Promise<Record<string, unknown>> =>
        new Promise((resolve, reject) => {
          const stream = session.request({ ':method': 'POST', ':path': '/a/b', 'content-type': 'application/grpc', ...more });
          stream.once('response', (received) => resolve(received));
          stream.once('error', reject);
          stream.end();
          stream.resume();
        });
      expect(await answerTo({ 'content-type': 'text/plain' })).to.include({ ':status': 415 });
      expect(await answerTo({ ':path': '/a/%00\xff"b' })).to.include({
        ':status': 200,
        'grpc-status': String(codes.UNIMPLEMENTED),
      });
      expect(await answerTo({ ':path': `/${'x'.repeat(10_000)}` })).to.include({ 'grpc-status': String(codes.UNIMPLEMENTED) });
      expect(await isServing()).to.equal(true);
    });

    it('half a request whose client is gone', async () => {
      await connectRaw();
      const stream = session.request({
        ':method': 'POST',
        ':path': getRequest.path,
        'content-type': 'application/grpc',
        authorization: String(headers().get('authorization')[0]),
      });
      stream.on('error', () => {});
      await new Promise<void>((resolve) => stream.write(Buffer.from([0, 0, 0, 0, 200, 1, 2, 3]), () => resolve()));
      session.destroy();
      expect(await isServing()).to.equal(true);
    });

    it('no more than 256 calls at once on a connection', async () => {
      await connectRaw();
      expect(session.remoteSettings.maxConcurrentStreams).to.equal(256);
    });

    it('headers that are too large by refusing the call alone', async () => {
      await connectRaw();
      const stream = session.request({
        ':method': 'POST',
        ':path': getRequest.path,
        'content-type': 'application/grpc',
        'x-large': 'x'.repeat(60_000),
        'x-larger': 'x'.repeat(60_000),
      });
      const code = await new Promise((resolve) => {
        stream.once('error', () => resolve(stream.rstCode));
        stream.once('close', () => resolve(stream.rstCode));
      });
      expect(code).to.not.equal(constants.NGHTTP2_NO_ERROR);
      expect(await isServing()).to.equal(true);
    });
  });

  it('never prints headers that it cannot read', async () => {
    const printed: string[] = [];
    const { error } = console;
    console.error = (...parts: unknown[]) => void printed.push(parts.join(' '));
    try {
      const { address } = await start();
      const session = connectHttp2(`http://${address}`);
      const stream = session.request({
        ':method': 'POST',
        ':path': getRequest.path,
        'content-type': 'application/grpc',
        authorization: 'Bearer t1.s\xe9cret.token',
      });
      stream.end(Buffer.from([0, 0, 0, 0, 0]));
      await new Promise((resolve) => stream.once('response', resolve));
      session.destroy();
    } finally {
      console.error = error;
    }
    expect(printed).to.deep.equal([]);
    expect(JSON.stringify(test!.lines)).to.not.include('cret');
  });

  describe('when it stops', () => {
    it('lets calls that run end well, and takes no new ones', async () => {
      const release = Promise.withResolvers<void>();
      const started = Promise.withResolvers<void>();
      const running = await start({
        images: {
          get: async ({ imageId }) => {
            started.resolve();
            await release.promise;
            return Image.fromPartial({ id: imageId });
          },
        },
      });
      const client = new ImageServiceClient(running.address, credentials.createInsecure());
      const answer = getWith(client);
      await started.promise;
      const stopped = running.server[Symbol.asyncDispose]();
      const refused = await new Promise<NodeJS.ErrnoException>((resolve) => {
        const socket: Socket = connect(portOf(running.address), '127.0.0.1');
        socket.once('error', resolve);
        socket.once('close', () => resolve(new Error('closed')));
      });
      expect(refused.code).to.equal('ECONNREFUSED');
      release.resolve();
      expect(await answer).to.include({ id: 'fd8' });
      await stopped;
      client.close();
    });

    it('cuts off what takes too long, tells it so, and waits until it has ended', async () => {
      const started = Promise.withResolvers<void>();
      let ended = false;
      const running = await start({
        graceMs: 100,
        images: {
          get: async (_, { signal }) => {
            started.resolve();
            await new Promise((resolve) => signal.addEventListener('abort', resolve));
            await new Promise((resolve) => setTimeout(resolve, 50));
            ended = true;
            return Image.fromPartial({});
          },
        },
      });
      const client = new ImageServiceClient(running.address, credentials.createInsecure());
      const answer = getWith(client).catch((error: { code: number }) => error);
      await started.promise;
      await running.server[Symbol.asyncDispose]();
      expect(ended).to.equal(true);
      expect(await answer).to.include({ code: codes.UNAVAILABLE });
      client.close();
    });

    it('does not wait for connections that are idle, strange or stuck in a handshake', async () => {
      const { started, tlsAddress } = await withTls();
      await getWith(started.images);
      const strangers = [portOf(started.address), portOf(tlsAddress)].map((port) => connect(port, '127.0.0.1'));
      await Promise.all(strangers.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
      const closed = strangers.map(
        (socket) =>
          new Promise((resolve) =>
            socket
              .resume()
              .on('error', () => {})
              .once('close', resolve),
          ),
      );
      await started.server[Symbol.asyncDispose]();
      await Promise.all(closed);
    });

    it('can be told twice', async () => {
      const { server } = await start();
      await Promise.all([server[Symbol.asyncDispose](), server[Symbol.asyncDispose]()]);
      await server[Symbol.asyncDispose]();
      await until(() => true);
    });
  });
});
