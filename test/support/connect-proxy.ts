// An HTTP proxy that knows CONNECT alone, for tests of imports.
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';

export interface ConnectProxy extends AsyncDisposable {
  readonly port: number;
  readonly asked: readonly { place: string; authorization: string | undefined }[];
  /** `credentials` as in `user:password@`. */
  url(credentials?: string): string;
}

/**
 * Listens on a free port of 127.0.0.1. `answer` may refuse with a status; `leadTo` answers a port of this machine that is connected to,
 * whatever place was asked for.
 */
export async function startConnectProxy(answer: () => number = () => 200, leadTo?: () => number): Promise<ConnectProxy> {
  const asked: { place: string; authorization: string | undefined }[] = [];
  const sockets = new Set<Socket>();
  const server: Server = createServer((_request, response) => response.writeHead(405).end());
  server.on('connect', (request, near: Socket) => {
    asked.push({ place: request.url ?? '', authorization: request.headers['proxy-authorization'] });
    const status = answer();
    if (status !== 200) return void near.end(`HTTP/1.1 ${status} No\r\nContent-Length: 0\r\n\r\n`);
    const place = new URL(`http://${request.url}`);
    const hostname = leadTo === undefined ? place.hostname : '127.0.0.1';
    const far = connect(leadTo?.() ?? Number(place.port || 80), hostname, () =>
      near.write('HTTP/1.1 200 Connection established\r\n\r\n'),
    );
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one);
      one
        .on('error', () => other.destroy())
        .on('close', () => other.destroy())
        .pipe(other);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    asked,
    url: (credentials = '') => `http://${credentials}127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
