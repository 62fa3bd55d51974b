// Health and metrics over HTTP, for orchestrators and Prometheus. (The REST form of the API will stand here too.)
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Log } from '../platform/log.ts';
import type { Metrics } from '../platform/metrics.ts';
import { StartError } from '../platform/start-error.ts';

export interface HttpServerOptions {
  host: string;
  /** 0 asks for a free one. */
  port: number;
  metrics: Metrics;
  log: Log;
  /** Whether calls can be served now. */
  isReady: () => boolean;
}

export interface HttpServer extends AsyncDisposable {
  readonly port: number;
}

interface Answer {
  status: number;
  contentType: string;
  body: string;
}

const text = (status: number, body: string): Answer => ({ status, contentType: 'text/plain; charset=utf-8', body: `${body}\n` });

/** @throws StartError when the address cannot be listened on. */
export async function startHttpServer({ host, port, metrics, log, isReady }: HttpServerOptions): Promise<HttpServer> {
  const pages: Record<string, () => Answer | Promise<Answer>> = {
    '/healthz': () => text(200, 'ok'),
    '/readyz': () => (isReady() ? text(200, 'ready') : text(503, 'not ready')),
    '/metrics': async () => ({ status: 200, ...(await metrics.render()) }),
  };
  const server = createServer(
    { requestTimeout: 10_000, headersTimeout: 5_000, keepAliveTimeout: 5_000, maxHeaderSize: 16 * 1024 },
    (request, response) => {
      const path = (request.url ?? '/').split('?', 1)[0]!;
      const isRead = request.method === 'GET' || request.method === 'HEAD';
      const page = Object.hasOwn(pages, path) ? pages[path] : undefined;
      const answer = page === undefined ? text(404, 'not found') : isRead ? page() : text(405, 'only GET and HEAD');
      Promise.resolve(answer).then(
        ({ status, contentType, body }) => {
          response.writeHead(status, {
            'content-type': contentType,
            'content-length': Buffer.byteLength(body),
            'cache-control': 'no-store',
          });
          response.end(request.method === 'HEAD' ? undefined : body);
        },
        (error: unknown) => {
          log.error({ err: error, path }, 'an HTTP page failed');
          response.writeHead(500).end();
        },
      );
      // Nothing that is served here reads a body.
      request.resume();
    },
  );
  server.maxConnections = 256;
  await listening(server, host, port);
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

async function listening(server: Server, host: string, port: number): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen({ host, port }, resolve));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason = code === 'EADDRINUSE' ? 'another program listens there' : message;
    throw new StartError(`cannot listen on ${host}:${port} for HTTP: ${reason}`, { cause: error });
  }
}
