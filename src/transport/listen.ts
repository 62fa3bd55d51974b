// Sockets of the server's own: bounded in number, closed in bounded time, with errors that an operator understands. TLS ends here, so
// that a certificate can be replaced while the server runs.
import { type Socket, createServer } from 'node:net';
import { type SecureContextOptions, createServer as createTlsServer } from 'node:tls';
import { formatAddress, parseAddress } from '../platform/address.ts';
import { listening } from '../platform/listening.ts';

/** A certificate chain and its key, PEM. */
export interface ServerCertificate {
  certificate: string;
  key: string;
}

export interface Port extends AsyncDisposable {
  /** host:port as it is listened on: the host that was asked for, and the real port. */
  readonly address: string;
  /** For new connections. @throws Error when certificate and key are not good or not a pair; the old ones stay then. */
  replaceCertificate(certificate: ServerCertificate): void;
  /** Takes no more connections. Resolves when those that are served have ended; their server must end them. */
  close(): Promise<void>;
}

/** Beyond these, new connections are closed at once. */
const maxConnections = 10_000;
const handshakeTimeoutMs = 10_000;

/**
 * Listens on `address`; TLS (ALPN h2) with a certificate, else plain. Disposal destroys what connections are left.
 * @throws StartError when the address cannot be listened on.
 */
export async function listen(
  address: string,
  certificate: ServerCertificate | undefined,
  onConnection: (socket: Socket) => void,
): Promise<Port> {
  /** All there are; with TLS those beneath it. */
  const sockets = new Set<Socket>();
  /** Those that were handed over; with TLS after the handshake. */
  const served = new Set<Socket>();
  const serve = (socket: Socket): void => {
    // A connection that breaks is the client's affair; its calls hear of it by themselves.
    socket.on('error', () => socket.destroy());
    keepWhileOpen(served, socket);
    onConnection(socket);
  };
  const plain = { noDelay: true };
  const tls =
    certificate === undefined
      ? undefined
      : createTlsServer(
          { ...plain, ...secureContext(certificate), ALPNProtocols: ['h2'], handshakeTimeout: handshakeTimeoutMs },
          serve,
        );
  // Handshakes that fail: a client that does not trust the certificate, a port scan.
  tls?.on('tlsClientError', (_error, socket) => socket.destroy());
  const server = tls ?? createServer(plain, serve);
  server.on('connection', (socket) => keepWhileOpen(sockets, socket));
  server.maxConnections = maxConnections;
  const port = await listening(server, address);
  return {
    address: formatAddress({ host: parseAddress(address).host, port }),
    replaceCertificate(next) {
      if (tls === undefined) throw new Error(`${address} is listened on without TLS`);
      tls.setSecureContext(secureContext(next));
    },
    async close() {
      server.close();
      await Promise.all([...served].map((socket) => new Promise((resolve) => socket.once('close', resolve))));
    },
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.once('close', resolve));
      const wasOpen = server.listening || sockets.size > 0;
      server.close();
      for (const socket of sockets) socket.destroy();
      if (wasOpen) await closed;
    },
  };
}

function keepWhileOpen(open: Set<Socket>, socket: Socket): void {
  open.add(socket);
  socket.once('close', () => open.delete(socket));
}

const secureContext = ({ certificate, key }: ServerCertificate): SecureContextOptions => ({
  cert: certificate,
  key,
  minVersion: 'TLSv1.2',
});
