// The upgrade to TLS in the middle of a connection. Who may connect is the certificate authority's affair here: with one, a client must
// show a certificate that it signed, or may, as the settings say; a bad certificate is never the same as none.
import type { Socket } from 'node:net';
import { type TLSSocket, createServer } from 'node:tls';

/** PEM. */
export interface NbdTlsCredentials {
  certificate: string;
  key: string;
  /** Signs the certificates of clients. Without it none are asked for. */
  clientAuthority?: string;
  /** Whether a client must have a certificate; only with an authority. Default: yes. */
  requireClientCertificate?: boolean;
}

export interface Secured {
  socket: TLSSocket;
  /** The common name of the client's certificate; undefined without a certificate, and when it has none or several. */
  certificateSubject: string | undefined;
}

/** @throws Error when the handshake fails or the client's certificate is not good; the socket is destroyed then. */
export function startTls(socket: Socket, credentials: NbdTlsCredentials, handshakeTimeoutMs: number): Promise<Secured> {
  const { certificate, key, clientAuthority, requireClientCertificate = true } = credentials;
  return new Promise((resolve, reject) => {
    // A server of one connection: the documented way to have Node verify the client for a socket that is already open.
    const server = createServer({
      cert: certificate,
      key,
      minVersion: 'TLSv1.2',
      handshakeTimeout: handshakeTimeoutMs,
      requestCert: clientAuthority !== undefined,
      rejectUnauthorized: clientAuthority !== undefined && requireClientCertificate,
      ...(clientAuthority === undefined ? {} : { ca: clientAuthority }),
    });
    const refuse = (error: Error): void => {
      socket.destroy();
      reject(error);
    };
    server.once('tlsClientError', refuse);
    socket.once('close', () => reject(new Error('the client left in the TLS handshake')));
    server.once('secureConnection', (secured: TLSSocket) => {
      const shown = secured.getPeerX509Certificate();
      if (shown !== undefined && clientAuthority !== undefined && !secured.authorized) {
        secured.destroy();
        refuse(new Error(`the client's certificate is not good: ${String(secured.authorizationError)}`));
      } else {
        resolve({ socket: secured, certificateSubject: shown === undefined ? undefined : commonName(shown.subject) });
      }
    });
    server.emit('connection', socket);
  });
}

/** `subject` has one attribute a line, as Node writes it. */
function commonName(subject: string | undefined): string | undefined {
  const names = (subject ?? '').split('\n').filter((line) => line.startsWith('CN='));
  return names.length === 1 ? names[0]!.slice('CN='.length) : undefined;
}
