// HTTP beside gRPC, for the operator's machinery: is the process alive, is it ready, what are its numbers. Bodies are not read.
// Everything else goes to `api`: REST over the same methods, when there is such a thing.
import { type IncomingMessage, type RequestListener, type ServerResponse, createServer } from 'node:http';
import { formatAddress, parseAddress } from '../platform/address.ts';
import { listening } from '../platform/listening.ts';
import type { Log } from '../platform/log.ts';

export interface HttpServerOptions {
  /** host:port; port 0 picks a free one. */
  address: string;
  /** Whether calls can be served now, asked at each request. */
  isReady: () => boolean;
  /** The metrics in the format of Prometheus. */
  renderMetrics: () => Promise<{ contentType: string; body: string }>;
  log: Log;
  /** Answers the paths that are not ours. Default: 404. */
  api?: RequestListener;
}

export interface HttpServer extends AsyncDisposable {
  /** host:port with the real port. */
  readonly address: string;
}

/** Small and quick requests are all that is expected here. */
const limits = {
  maxHeaderSize: 16 * 1024,
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  keepAliveTimeout: 5_000,
  connectionsCheckingInterval: 5_000,
  noDelay: true,
};
const maxConnections = 1_000;
const closeGraceMs = 2_000;

type Answer = { status: number; body: string; contentType?: string; headers?: Record<string, string> };

/** @throws StartError when the address cannot be listened on. */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const pages: Record<string, () => Answer | Promise<Answer>> = {
    '/healthz': () => ({ status: 200, body: 'alive\n' }),
    '/readyz': () => (options.isReady() ? { status: 200, body: 'ready\n' } : { status: 503, body: 'not ready\n' }),
    '/metrics': async () => ({ status: 200, ...(await options.renderMetrics()) }),
  };
  const server = createServer(limits, (request, response) => {
    const path = request.url?.split('?', 1)[0] ?? '';
    const page = Object.hasOwn(pages, path) ? pages[path] : undefined;
    if (page !== undefined) void answerPage(page, request, response, options.log);
    else if (options.api !== undefined) options.api(request, response);
    else send(request, response, { status: 404, body: 'not found\n' });
  });
  server.maxConnections = maxConnections;
  const port = await listening(server, options.address);
  return {
    address: formatAddress({ host: parseAddress(options.address).host, port }),
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      const timer = setTimeout(() => server.closeAllConnections(), closeGraceMs);
      server.closeIdleConnections();
      await closed;
      clearTimeout(timer);
    },
  };
}

async function answerPage(
  page: () => Answer | Promise<Answer>,
  request: IncomingMessage,
  response: ServerResponse,
  log: Log,
): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    send(request, response, { status: 405, body: 'only GET and HEAD\n', headers: { allow: 'GET, HEAD' } });
    return;
  }
  try {
    send(request, response, await page());
  } catch (error) {
    log.error({ err: error }, 'an HTTP page failed');
    send(request, response, { status: 500, body: 'internal error\n' });
  }
}

function send(request: IncomingMessage, response: ServerResponse, { status, body, contentType, headers }: Answer): void {
  response.writeHead(status, {
    'content-type': contentType ?? 'text/plain; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    // A body that came along is not read: the connection cannot go on.
    ...(hasBody(request) ? { connection: 'close' } : {}),
    ...headers,
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}

const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0';
