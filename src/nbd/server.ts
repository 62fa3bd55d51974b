// The NBD server: listens, takes each connection through its handshake and its transmission, and closes all of them in order. It is
// bounded in everything a stranger can use up: connections, those among them that have opened nothing yet, time for the handshake, and
// the memory of all together. Names that clients send may be secrets: they are in no error and no log of ours.
import { type Server, type Socket, createServer } from 'node:net';
import { formatAddress, parseAddress } from '../platform/address.ts';
import { listening, listeningOnSocket } from '../platform/listening.ts';
import { StartError } from '../platform/start-error.ts';
import { BufferPool } from './buffer-pool.ts';
import { type NbdCounters, newCounters } from './execution.ts';
import { type ExportProvider, ExportRefused, type NbdPeer } from './export-provider.ts';
import { type Negotiated, type TlsMode, handshake } from './handshake.ts';
import { canonicalPeer, lostPeers } from './lost-peers.ts';
import { Session, type SessionLimits } from './session.ts';
import type { NbdTlsCredentials } from './start-tls.ts';

export interface NbdEndpoint {
  /** host:port (port 0 picks a free one), or the path of a Unix socket: what has a slash. */
  address: string;
  tls: TlsMode;
}

export interface NbdLimits extends SessionLimits {
  /** Beyond it new connections are closed at once. */
  maxConnections: number;
  /** Connections that have not opened anything yet; beyond it new ones are closed at once. */
  maxHandshakes: number;
  handshakeMs: number;
  /** Memory of all connections for requests and replies; while it is used up none takes in a new request. */
  maxHeldBytesOfAll: number;
  /** Beyond that, for requests of connections that hold nothing of it. */
  reservedBytes: number;
  /** While memory is short, a connection that holds some of it and has moved too little for so long is closed. */
  stalledMs: number;
  /** How long a closing server waits for what is in flight. */
  closeMs: number;
}

export const defaultNbdLimits: NbdLimits = {
  maxRequests: 256,
  maxHeldBytes: 64 * 1024 * 1024,
  maxConnections: 512,
  maxHandshakes: 128,
  handshakeMs: 10_000,
  maxHeldBytesOfAll: 512 * 1024 * 1024,
  reservedBytes: 64 * 1024 * 1024,
  stalledMs: 30_000,
  closeMs: 10_000,
};

/** An export that a client has open. */
export interface NbdConnection {
  readonly id: number;
  readonly peer: NbdPeer;
  /** As the client sent it: it may be a secret. */
  readonly exportName: string;
  readonly openedAt: Date;
}

export interface NbdServerOptions {
  endpoints: readonly NbdEndpoint[];
  provider: ExportProvider;
  /** Needed where an endpoint offers or requires TLS. */
  tls?: NbdTlsCredentials;
  limits?: Partial<NbdLimits>;
  /** Failures that are ours or a device's: what a BlockDeviceError or an ExportRefused does not explain. */
  onError: (error: unknown) => void;
  onOpened?: (connection: NbdConnection) => void;
  onClosed?: (connection: NbdConnection, reason: string) => void;
}

export interface NbdServer extends AsyncDisposable {
  /** In the order of the endpoints, with real ports. */
  readonly addresses: readonly string[];
  readonly counters: Readonly<NbdCounters>;
  /** All there are, with those that have nothing open. */
  readonly connectionCount: number;
  readonly heldBytes: number;
  connections(): NbdConnection[];
  /** For connections from now on. */
  replaceTls(credentials: NbdTlsCredentials): void;
}

/** Probes begin after 5 s of silence and come every second; the tenth without an answer ends the connection. */
const keepAliveAfterMs = 5_000;
const checkMs = 5_000;
/** A connection that moved since then is not lost. */
const silentMs = 10_000;
const keptBytes = 64 * 1024 * 1024;

/** @throws StartError when an address cannot be listened on, or TLS is wanted and there is no certificate. */
export async function startNbdServer(options: NbdServerOptions): Promise<NbdServer> {
  const server = new ListeningServer(options);
  try {
    for (const endpoint of options.endpoints) await server.listen(endpoint);
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}

class ListeningServer implements NbdServer {
  readonly addresses: string[] = [];
  readonly counters = newCounters();
  readonly #options: NbdServerOptions;
  readonly #limits: NbdLimits;
  readonly #pool: BufferPool;
  readonly #servers: Server[] = [];
  readonly #closing = new AbortController();
  #tls: NbdTlsCredentials | undefined;
  /** Each connection's life, until nothing of it is left. */
  readonly #lives = new Map<Socket, Promise<void>>();
  readonly #sessions = new Map<NbdConnection, Session>();
  readonly #checkTimer: NodeJS.Timeout;
  #handshakes = 0;
  #lastId = 0;

  constructor(options: NbdServerOptions) {
    this.#options = options;
    this.#tls = options.tls;
    this.#limits = { ...defaultNbdLimits, ...options.limits };
    const { maxHeldBytesOfAll, reservedBytes } = this.#limits;
    this.#pool = new BufferPool({ maxLentBytes: maxHeldBytesOfAll, maxKeptBytes: keptBytes, reservedBytes });
    this.#checkTimer = setInterval(() => this.#check(), Math.min(checkMs, this.#limits.stalledMs));
    this.#checkTimer.unref();
  }

  get connectionCount(): number {
    return this.#lives.size;
  }

  get heldBytes(): number {
    return this.#pool.lentBytes;
  }

  connections(): NbdConnection[] {
    return [...this.#sessions.keys()];
  }

  replaceTls(credentials: NbdTlsCredentials): void {
    this.#tls = credentials;
  }

  async listen({ address, tls }: NbdEndpoint): Promise<void> {
    if (tls !== 'off' && this.#tls === undefined) throw new StartError(`TLS on ${address} needs a certificate`);
    const isPath = address.includes('/');
    const server = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: keepAliveAfterMs }, (socket) => {
      this.#accept(socket, isPath ? address : undefined, tls);
    });
    this.#servers.push(server);
    if (isPath) await listeningOnSocket(server, address);
    const port = isPath ? 0 : await listening(server, address);
    // Not enough file descriptors, say: the next connection may fare better.
    server.on('error', this.#options.onError);
    this.addresses.push(isPath ? address : formatAddress({ host: parseAddress(address).host, port }));
  }

  #accept(socket: Socket, path: string | undefined, tls: TlsMode): void {
    socket.on('error', () => socket.destroy());
    if (
      this.#closing.signal.aborted ||
      this.#lives.size >= this.#limits.maxConnections ||
      this.#handshakes >= this.#limits.maxHandshakes
    ) {
      socket.destroy();
      return;
    }
    const life = this.#serve(socket, path, tls)
      .catch(this.#options.onError)
      .finally(() => {
        socket.destroy();
        this.#lives.delete(socket);
      });
    this.#lives.set(socket, life);
  }

  async #serve(socket: Socket, path: string | undefined, tls: TlsMode): Promise<void> {
    const peer: NbdPeer = {
      remoteAddress: path ?? formatAddress({ host: socket.remoteAddress ?? 'unknown', port: socket.remotePort ?? 0 }),
      isUnixSocket: path !== undefined,
      isTls: false,
      certificateSubject: undefined,
    };
    this.#handshakes += 1;
    let negotiated: Negotiated | undefined;
    try {
      negotiated = await this.#negotiate(socket, peer, tls);
    } finally {
      this.#handshakes -= 1;
    }
    if (negotiated !== undefined) await this.#transmit(negotiated);
    else if (!socket.destroyed) await said(socket);
  }

  /** Undefined: the client left, broke the protocol, took too long, or may not. None of it is our failure. */
  async #negotiate(socket: Socket, peer: NbdPeer, tls: TlsMode): Promise<Negotiated | undefined> {
    const ended = new AbortController();
    const end = (): void => {
      ended.abort(new ExportRefused('SHUTDOWN', 'the handshake has ended'));
      socket.destroy();
    };
    const timer = setTimeout(end, this.#limits.handshakeMs);
    this.#closing.signal.addEventListener('abort', end);
    socket.once('close', end);
    const { provider, onError } = this.#options;
    try {
      const credentials = this.#tls;
      return await handshake({ socket, peer, provider, tls: { mode: tls, credentials }, signal: ended.signal, onError });
    } catch {
      socket.destroy();
      return undefined;
    } finally {
      clearTimeout(timer);
      this.#closing.signal.removeEventListener('abort', end);
      socket.off('close', end);
    }
  }

  async #transmit({ socket, peer, exportName, device, agreed }: Negotiated): Promise<void> {
    const { onOpened, onClosed, onError } = this.#options;
    const connection: NbdConnection = { id: (this.#lastId += 1), peer, exportName, openedAt: new Date() };
    const session = new Session({
      socket,
      device,
      agreed,
      pool: this.#pool,
      limits: this.#limits,
      counters: this.counters,
      onError,
    });
    this.#sessions.set(connection, session);
    onOpened?.(connection);
    try {
      const running = session.run();
      if (this.#closing.signal.aborted) session.drain(closingReason);
      const reason = await running;
      onClosed?.(connection, reason);
    } finally {
      this.#sessions.delete(connection);
    }
  }

  #check(): void {
    this.#endStalled();
    void this.#endLost().catch(this.#options.onError);
  }

  async #endLost(): Promise<void> {
    const before = performance.now() - silentMs;
    const silent = [...this.#sessions].filter(([{ peer }, session]) => !peer.isUnixSocket && session.progressAtMs < before);
    if (silent.length === 0) return;
    const ports = this.addresses.filter((address) => !address.includes('/')).map((address) => parseAddress(address).port);
    const lost = await lostPeers(new Set(ports));
    for (const [{ peer }, session] of silent) {
      const { host, port } = parseAddress(peer.remoteAddress);
      if (lost.has(canonicalPeer(host, port))) session.end("the client's machine does not answer");
    }
  }

  /** Memory that others wait for must not lie with those who hardly move. */
  #endStalled(): void {
    const { isShort } = this.#pool;
    const nowMs = performance.now();
    for (const session of this.#sessions.values()) {
      const slowForMs = session.slowForMs(nowMs);
      if (isShort && slowForMs >= this.#limits.stalledMs) session.end('the client did not move while memory was short');
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#checkTimer);
    const closed = this.#servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())));
    this.#closing.abort();
    for (const session of this.#sessions.values()) session.drain(closingReason);
    const timer = setTimeout(() => {
      for (const session of this.#sessions.values()) session.end(closingReason);
      for (const socket of this.#lives.keys()) socket.destroy();
    }, this.#limits.closeMs);
    while (this.#lives.size > 0) await Promise.all(this.#lives.values());
    clearTimeout(timer);
    await Promise.all(closed);
  }
}

const closingReason = 'the server is closing';

/** Lets a client read the last answer before the connection goes; one second is enough for whoever listens. */
async function said(socket: Socket): Promise<void> {
  const timer = setTimeout(() => socket.destroy(), 1_000);
  await new Promise<void>((resolve) => {
    socket.once('close', () => resolve());
    socket.end();
    socket.resume();
  });
  clearTimeout(timer);
}
