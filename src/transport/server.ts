// The gRPC server: the same services on a plaintext port and on a TLS port.
import { type ConnectionInjector, Server, ServerCredentials, setLogger } from '@grpc/grpc-js';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Log, maskSecrets } from '../platform/log.ts';
import { type Port, type ServerCertificate, listen } from './listen.ts';
import { type Listener, RunningCalls, type Service } from './service.ts';

export interface GrpcServerOptions {
  services: readonly Service[];
  /** host:port to serve without TLS. */
  plaintextAddress?: string | undefined;
  tls?: (ServerCertificate & { address: string }) | undefined;
  log: Log;
  /** Time for calls to end when the server stops; then their connections are cut. Default: 10 s. */
  graceMs?: number;
}

/** Disposal stops it: no new connections or calls, time for those that run, then an end. */
export interface GrpcServer extends AsyncDisposable {
  /** host:port, with the real port where 0 was asked for. */
  readonly plaintextAddress: string | undefined;
  readonly tlsAddress: string | undefined;
  /** New connections get the new certificate; open ones stay. @throws Error when it is not good; the old one stays then. */
  replaceCertificate(certificate: ServerCertificate): void;
}

const defaultGraceMs = 10_000;
/** After its connection was cut, a call has this long to notice. */
const afterGraceMs = 5_000;

/** Every call gets these bounds. Clients may ping as often as they like: there is no limit that would end in GOAWAY. */
const limits = {
  'grpc.max_receive_message_length': 4 * 1024 * 1024,
  'grpc.max_concurrent_streams': 256,
  // Finds clients that vanished without a word.
  'grpc.keepalive_time_ms': 60_000,
  'grpc.keepalive_timeout_ms': 20_000,
  'grpc.enable_channelz': 0,
};

/** @throws StartError when an address cannot be listened on; then nothing is. */
export async function startGrpcServer(options: GrpcServerOptions): Promise<GrpcServer> {
  const { services, plaintextAddress, tls, log, graceMs = defaultGraceMs } = options;
  // It would print headers that it finds malformed, tokens among them.
  setLogger({ error: (...parts: unknown[]) => log.debug({ text: maskSecrets(parts.join(' ')) }, 'grpc-js') });
  const running = new RunningCalls();
  const servers: Server[] = [];
  const ports: Port[] = [];

  const open = async (address: string, certificate?: ServerCertificate): Promise<Port> => {
    const listener: Listener = { secure: certificate !== undefined, running };
    const { server, injector } = hostServices(services, listener);
    const port = await listen(address, certificate, (socket) => injector.injectConnection(socket));
    servers.push(server);
    ports.push(port);
    return port;
  };

  const stop = async (): Promise<void> => {
    running.stop();
    const closed = Promise.all(ports.map((port) => port.close()));
    // Sends GOAWAY: connections end after their last call. (Its callback comes before that: sockets of our own are not its to wait for.)
    for (const server of servers) server.tryShutdown(() => {});
    await within(graceMs, closed);
    await Promise.all(ports.map((port) => port[Symbol.asyncDispose]()));
    if (!(await within(afterGraceMs, running.whenIdle()))) log.warn('calls were still running when the server had stopped');
  };

  try {
    const plaintextPort = plaintextAddress === undefined ? undefined : await open(plaintextAddress);
    const tlsPort = tls === undefined ? undefined : await open(tls.address, tls);
    return {
      plaintextAddress: plaintextPort?.address,
      tlsAddress: tlsPort?.address,
      replaceCertificate: (certificate) => tlsPort?.replaceCertificate(certificate),
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function hostServices(services: readonly Service[], listener: Listener): { server: Server; injector: ConnectionInjector } {
  const server = new Server(limits);
  for (const service of services) server.addService(service.definition, service.handlers(listener));
  // TLS has ended in listen.ts: grpc-js gets what is inside.
  return { server, injector: server.createConnectionInjector(ServerCredentials.createInsecure()) };
}

/** False when it took longer. */
async function within(limitMs: number, work: Promise<unknown>): Promise<boolean> {
  const timeUp = new AbortController();
  try {
    return await Promise.race([work.then(() => true), sleep(limitMs, false, { signal: timeUp.signal })]);
  } finally {
    timeUp.abort();
  }
}
