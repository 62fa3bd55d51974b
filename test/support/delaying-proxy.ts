// A TCP proxy that makes a local server far away: every byte arrives `oneWayMs` after it was sent, in both directions (a connection's
// first byte as well), and no faster than `bytesPerSecond`.
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface DelayingProxyOptions {
  /** Where it leads to on 127.0.0.1. */
  port: number;
  oneWayMs: number;
  /** For each connection and direction; unlimited when not given. */
  bytesPerSecond?: number;
}

export interface DelayingProxy extends AsyncDisposable {
  readonly port: number;
  readonly connectionCount: number;
}

/** Bytes on their way in one direction of one connection; more, and the sender waits, as behind any network. */
const maxBytesUnderWay = 16 * 1024 * 1024;

export async function startDelayingProxy(options: DelayingProxyOptions): Promise<DelayingProxy> {
  const sockets = new Set<Socket>();
  let connectionCount = 0;
  const server = createServer({ allowHalfOpen: true }, (near) => {
    connectionCount += 1;
    const far = connect({ port: options.port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    for (const [socket, peer] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket);
      socket.on('error', () => peer.destroy()).on('close', () => sockets.delete(socket));
      carry(socket, peer, options);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    get connectionCount() {
      return connectionCount;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function carry(from: Socket, to: Socket, { oneWayMs, bytesPerSecond = Number.POSITIVE_INFINITY }: DelayingProxyOptions): void {
  /** In order of arrival; null is the end of the stream. */
  const underWay: { bytes: Buffer | null; dueAt: number }[] = [];
  let bytesUnderWay = 0;
  let lineFreeAt = 0;
  let timer: NodeJS.Timeout | undefined;

  const resumeIfRoom = () => {
    if (bytesUnderWay + to.writableLength < maxBytesUnderWay) from.resume();
  };
  const deliver = () => {
    timer = undefined;
    const now = performance.now();
    // One system call for all that is due.
    to.cork();
    while (underWay.length > 0 && underWay[0]!.dueAt <= now + 0.5) {
      const { bytes } = underWay.shift()!;
      if (to.destroyed) return;
      if (bytes === null) to.end();
      else {
        bytesUnderWay -= bytes.length;
        to.write(bytes);
      }
    }
    to.uncork();
    resumeIfRoom();
    if (underWay.length > 0) timer = setTimeout(deliver, Math.max(1, underWay[0]!.dueAt - performance.now()));
  };
  const depart = (bytes: Buffer | null) => {
    lineFreeAt = Math.max(lineFreeAt, performance.now()) + ((bytes?.length ?? 0) * 1000) / bytesPerSecond;
    underWay.push({ bytes, dueAt: lineFreeAt + oneWayMs });
    bytesUnderWay += bytes?.length ?? 0;
    if (bytesUnderWay + to.writableLength >= maxBytesUnderWay) from.pause();
    timer ??= setTimeout(deliver, oneWayMs);
  };
  to.on('drain', resumeIfRoom);
  from.on('data', depart).on('end', () => depart(null));
  from.on('close', () => {
    // A reset arrives at once: what was under way is lost with it.
    if (from.errored) clearTimeout(timer);
  });
}
