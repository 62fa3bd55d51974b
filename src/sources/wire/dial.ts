// The only place where sockets to sources are opened. A name is never resolved here: a connection goes to an address that the URL policy
// answered, directly or through the operator's proxy.
import { connect as connectTcp, isIP, type OnReadOpts, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions, type SecureContext, type TLSSocket } from 'node:tls';
import type { Proxy } from '../proxy-rules.ts';
import type { Target } from '../url-policy.ts';
import { Connection } from './connection.ts';
import type { Timeouts } from './timeouts.ts';
import { openTunnel } from './tunnel.ts';
import { WireError } from './wire-error.ts';

export interface DialOptions {
  timeouts: Timeouts;
  /** Trusted authorities; undefined for the well-known ones. */
  secureContext: SecureContext | undefined;
  proxy: Proxy | undefined;
  signal: AbortSignal | undefined;
}

/** Tries the target's addresses in turn. @throws WireError unreachable, untrusted or proxy; signal.reason. */
export async function dial(target: Target, options: DialOptions): Promise<Connection> {
  const deadline = performance.now() + options.timeouts.connectMs;
  let failure: unknown;
  for (const [index, address] of target.addresses.entries()) {
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) break;
    // A share for each address: one that swallows packets must not use up the time of the others.
    const attemptMs = leftMs / Math.min(target.addresses.length - index, 4);
    try {
      return await dialAddress(target, address, attemptMs, options);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (error instanceof WireError && error.kind !== 'unreachable') throw error;
      failure = error;
    }
  }
  throw new WireError('unreachable', 'no connection', { cause: failure });
}

async function dialAddress(target: Target, address: string, withinMs: number, options: DialOptions): Promise<Connection> {
  if (isIP(address) === 0) throw new Error('a connection was asked for without a checked address');
  const { timeouts, proxy, secureContext, signal } = options;
  const deadline = performance.now() + withinMs;
  const tunnel = proxy === undefined ? undefined : await openTunnel(proxy, { address, port: target.port, withinMs, signal });
  const openSocket = (onread: OnReadOpts | undefined): Socket => {
    const way =
      tunnel === undefined ? { host: address, port: target.port, onread, noDelay: true, keepAlive: true } : { socket: tunnel };
    if (target.protocol === 'https:') return connectTls({ ...way, ...tlsOptions(target, secureContext) } as ConnectionOptions);
    return tunnel ?? connectTcp({ host: address, port: target.port, onread: onread!, noDelay: true, keepAlive: true });
  };
  const connection = new Connection(address, timeouts, openSocket, tunnel !== undefined);
  if (target.protocol === 'https:') await opened(connection, 'secureConnect', deadline, signal);
  else if (tunnel === undefined) await opened(connection, 'connect', deadline, signal);
  return connection;
}

const tlsOptions = (target: Target, secureContext: SecureContext | undefined): ConnectionOptions => ({
  // In a tunnel the socket names no host, and without a name the address is what the certificate must cover.
  ...(target.servername === undefined ? { host: target.hostname } : { servername: target.servername }),
  ...(secureContext === undefined ? {} : { secureContext }),
  ALPNProtocols: ['http/1.1'],
  // Said aloud, so that the environment of the process cannot turn it off.
  rejectUnauthorized: true,
});

/** Waits until the connection is there. @throws after having ended it. */
function opened(connection: Connection, event: string, deadline: number, signal: AbortSignal | undefined): Promise<void> {
  const { socket } = connection;
  return new Promise((resolve, reject) => {
    const settle = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      socket.off(event, onOpen).off('error', onError).off('close', onClose);
    };
    const fail = (error: Error) => {
      settle();
      connection.destroy();
      reject(error);
    };
    const onOpen = () => {
      settle();
      resolve();
    };
    const onAbort = () => fail(signal!.reason as Error);
    const onClose = () => fail(new Error('closed'));
    const onError = (error: Error) => {
      // Set when the handshake worked and the certificate did not convince: then an HTTPS server has shown itself.
      const reason = (socket as TLSSocket).authorizationError as unknown;
      fail(reason ? new WireError('untrusted', codeOf(reason)) : error);
    };
    const timer = setTimeout(() => fail(new Error('timed out')), Math.max(1, deadline - performance.now()));
    socket.once(event, onOpen).once('error', onError).once('close', onClose);
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
  });
}

/** In spite of its declared type, a socket's authorizationError is a code or an error. */
const codeOf = (reason: unknown): string =>
  typeof reason === 'string' ? reason : ((reason as NodeJS.ErrnoException).code ?? 'unknown reason');
