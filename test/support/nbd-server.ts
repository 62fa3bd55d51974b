// A running NBD server over devices in memory, for tests: on a Unix socket and on a loopback port.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { NbdConnection, NbdServer, NbdServerOptions } from '../../src/nbd/server.ts';
import { startNbdServer } from '../../src/nbd/server.ts';
import { type MemoryDevice, MemoryExports } from './memory-device.ts';

export class TestNbdServer implements AsyncDisposable {
  readonly server: NbdServer;
  readonly exports: MemoryExports;
  readonly errors: unknown[];
  readonly closed: [NbdConnection, string][];
  readonly #directory: string;

  private constructor(
    server: NbdServer,
    exports: MemoryExports,
    directory: string,
    errors: unknown[],
    closed: [NbdConnection, string][],
  ) {
    this.server = server;
    this.exports = exports;
    this.#directory = directory;
    this.errors = errors;
    this.closed = closed;
  }

  static async start(devices: Record<string, MemoryDevice>, options: Partial<NbdServerOptions> = {}): Promise<TestNbdServer> {
    const directory = await mkdtemp(path.join(tmpdir(), 'obraz-nbd-'));
    const exports = new MemoryExports(devices);
    const errors: unknown[] = [];
    const closed: [NbdConnection, string][] = [];
    const tls = options.tls === undefined ? 'off' : 'required';
    const server = await startNbdServer({
      endpoints: [
        { address: path.join(directory, 'nbd.sock'), tls },
        { address: '127.0.0.1:0', tls },
      ],
      provider: exports,
      onError: (error) => errors.push(error),
      onClosed: (connection, reason) => closed.push([connection, reason]),
      ...options,
    });
    return new TestNbdServer(server, exports, directory, errors, closed);
  }

  get socketPath(): string {
    return this.server.addresses[0]!;
  }

  get tcpAddress(): string {
    return this.server.addresses[1]!;
  }

  /** For libnbd and QEMU, over the Unix socket. */
  uri(name: string): string {
    return `nbd+unix:///${encodeURIComponent(name)}?socket=${this.socketPath}`;
  }

  tcpUri(name: string): string {
    return `nbd://${this.tcpAddress}/${encodeURIComponent(name)}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** Waits until something is true, at most 20 s. */
export async function until(isTrue: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!isTrue()) {
    if (Date.now() > deadline) throw new Error('it did not become true within 20 s');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
