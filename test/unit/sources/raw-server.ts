// A TCP server that answers requests with any bytes, for what no HTTP library would send.
import { type AddressInfo, createServer, type Socket } from 'node:net';

export interface RawServer extends AsyncDisposable {
  readonly port: number;
  readonly connectionCount: number;
  /** The heads of all requests, as they came. */
  readonly requests: readonly string[];
}

/** @param answer gets each request's head and its number, from 0; a text is sent as latin1, nothing leaves the client waiting. */
export async function startRawServer(
  answer: (head: string, index: number, socket: Socket) => string | Uint8Array | undefined,
): Promise<RawServer> {
  const sockets = new Set<Socket>();
  const requests: string[] = [];
  let connectionCount = 0;
  const server = createServer((socket) => {
    connectionCount += 1;
    sockets.add(socket);
    let pending = '';
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    socket.on('data', (bytes) => {
      pending += bytes.toString('latin1');
      for (let end = pending.indexOf('\r\n\r\n'); end !== -1; end = pending.indexOf('\r\n\r\n')) {
        const head = pending.slice(0, end + 4);
        pending = pending.slice(end + 4);
        requests.push(head);
        const text = answer(head, requests.length - 1, socket);
        if (text !== undefined && socket.writable) socket.write(typeof text === 'string' ? Buffer.from(text, 'latin1') : text);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    get connectionCount() {
      return connectionCount;
    },
    requests,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
