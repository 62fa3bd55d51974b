import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { expect } from 'chai';
import { createLog } from '../../../src/platform/log.ts';
import { type HttpServer, type HttpServerOptions, startHttpServer } from '../../../src/http/server.ts';

describe('The HTTP server', () => {
  let server: HttpServer;
  let ready: boolean;
  let lines: string[];

  const start = async (more: Partial<HttpServerOptions> = {}): Promise<void> => {
    ready = false;
    lines = [];
    server = await startHttpServer({
      address: '127.0.0.1:0',
      isReady: () => ready,
      log: createLog({ level: 'info', destination: { write: (line) => void lines.push(line) } }),
      renderMetrics: async () => ({ contentType: 'text/plain; version=0.0.4', body: 'obraz_something 1\n' }),
      ...more,
    });
  };
  afterEach(() => server[Symbol.asyncDispose]());

  const get = (path: string, init?: RequestInit): Promise<Response> => fetch(`http://${server.address}${path}`, init);

  /** What comes back on a connection for raw bytes. */
  const raw = async (request: string): Promise<string> => {
    const [host, port] = server.address.split(':');
    const socket = connect(Number(port), host);
    socket.end(request);
    return text(socket);
  };

  it('is alive before it is ready', async () => {
    await start();
    expect((await get('/healthz')).status).to.equal(200);
    expect((await get('/readyz')).status).to.equal(503);
    ready = true;
    const response = await get('/readyz?verbose');
    expect(response.status).to.equal(200);
    expect(await response.text()).to.equal('ready\n');
    expect(response.headers.get('cache-control')).to.equal('no-store');
  });

  it('shows the metrics with their content type', async () => {
    await start();
    const response = await get('/metrics');
    expect(response.headers.get('content-type')).to.equal('text/plain; version=0.0.4');
    expect(await response.text()).to.equal('obraz_something 1\n');
  });

  it('answers 500 without a reason when metrics cannot be made, and logs it', async () => {
    await start({ renderMetrics: () => Promise.reject(new Error('secret')) });
    const response = await get('/metrics');
    expect(response.status).to.equal(500);
    expect(await response.text()).to.equal('internal error\n');
    expect(lines.join('')).to.include('an HTTP page failed').and.to.include('secret');
  });

  it('answers HEAD without a body, and other methods with 405', async () => {
    await start();
    const head = await get('/healthz', { method: 'HEAD' });
    expect(head.status).to.equal(200);
    expect(await head.text()).to.equal('');
    expect(head.headers.get('content-length')).to.equal('6');
    const post = await get('/healthz', { method: 'POST', body: 'x' });
    expect(post.status).to.equal(405);
    expect(post.headers.get('allow')).to.equal('GET, HEAD');
  });

  it('does not know other paths, nor names of things that objects inherit', async () => {
    await start();
    for (const path of ['/', '/healthz/', '/constructor', '/__proto__', '/compute/v1/images']) {
      expect((await get(path)).status, path).to.equal(404);
    }
  });

  it('hands other paths on where there is someone to take them', async () => {
    await start({ api: (request, response) => void response.end(`api ${request.url}`) });
    expect(await (await get('/compute/v1/images?x=1')).text()).to.equal('api /compute/v1/images?x=1');
    expect(await (await get('/healthz')).text()).to.equal('alive\n');
  });

  it('reads no bodies: the connection ends after a request that has one', async () => {
    await start();
    const answer = await raw(
      'POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nGET /metrics HTTP/1.1\r\nHost: a\r\n\r\n',
    );
    expect(answer)
      .to.match(/^HTTP\/1.1 405 /)
      .and.to.match(/connection: close/i);
    expect(answer).to.not.include('obraz_something');
  });

  it('refuses headers that are too large, and what is not HTTP', async () => {
    await start();
    expect(await raw(`GET /healthz HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`)).to.match(/^HTTP\/1.1 431 /);
    expect(await raw('\x16\x03\x01 hello\r\n\r\n')).to.match(/^HTTP\/1.1 400 /);
    expect((await get('/healthz')).status).to.equal(200);
  });

  it('names the address it really listens on, and says why it cannot listen', async () => {
    await start();
    expect(server.address).to.match(/^127\.0\.0\.1:[1-9]\d*$/);
    const { address } = server;
    const second = await start({ address }).then(
      () => undefined,
      (error: Error) => error,
    );
    expect(second?.name).to.equal('StartError');
    expect(second?.message).to.equal(`cannot listen on ${server.address}: another program listens there`);
  });

  it('ends with connections open: idle ones at once, stuck ones soon', async () => {
    await start();
    await get('/healthz'); // leaves a connection that is kept alive
    const [host, port] = server.address.split(':');
    const stuck = connect(Number(port), host);
    stuck.on('error', () => {});
    await new Promise((resolve) => stuck.once('connect', resolve));
    stuck.write('GET /healthz HTTP/1.1\r\nHost:');
    const closed = new Promise((resolve) => stuck.once('close', resolve));
    await server[Symbol.asyncDispose]();
    await closed;
  });
});
