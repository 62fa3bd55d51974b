// The real service as a child process, for end-to-end tests: `node src/main.ts serve` on free ports with a data folder of its own.
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { raiseLimits } from './limits.ts';
import { removeDataFolder } from './postgres.ts';

export interface ObrazOptions {
  /** A data folder to use (again); it is kept at the end. Default: a new one, removed at the end. */
  dataDirectory?: string;
  environment?: Record<string, string>;
  /** The limits that hold in the cloud of the first start: none, or what is set there (the defaults, at first). Default: none. */
  limits?: 'none' | 'as set';
}

export interface Bootstrap {
  cloud_id: string;
  folder_id: string;
  service_account_id: string;
  addresses: { grpc: string; tls: string; http: string; nbd?: string; nbd_socket?: string };
}

const repository = path.resolve(import.meta.dirname, '../..');

/** As `npm start` sets them: what is measured here is then what operators see. */
const { nodeFlags, tunables } = settingsOfStart();

function settingsOfStart(): { nodeFlags: string[]; tunables: string } {
  const { scripts } = JSON.parse(readFileSync(path.join(repository, 'package.json'), 'utf8')) as { scripts: { start: string } };
  const found = /GLIBC_TUNABLES="\$\{GLIBC_TUNABLES:-(\S+)\}" .*exec node ((?:--\S+ )*)src\/main\.ts serve$/.exec(scripts.start);
  if (found === null) throw new Error('npm start is not the service with its settings');
  return { tunables: found[1]!, nodeFlags: found[2]!.split(' ').filter((flag) => flag !== '') };
}

/** Rate limits that no bench meets; what it costs to ask them is measured all the same. */
export const highRates = {
  OBRAZ_RATE_SUBJECT_CALLS_PER_SECOND: '10000000',
  OBRAZ_RATE_SUBJECT_CHANGES_PER_SECOND: '10000000',
  OBRAZ_RATE_ADDRESS_CALLS_PER_SECOND: '10000000',
};

export class Obraz implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly dataDirectory: string;
  /** Everything that the process has printed so far. */
  output = '';
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly #keepData: boolean;

  private constructor(child: ChildProcess, dataDirectory: string, keepData: boolean) {
    this.child = child;
    this.dataDirectory = dataDirectory;
    this.#keepData = keepData;
    this.exited = new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })));
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.setEncoding('utf8');
      stream.on('data', (text: string) => (this.output += text));
    }
  }

  /** Starts the process without waiting for it to be ready. */
  static async spawn(options: ObrazOptions = {}): Promise<Obraz> {
    const dataDirectory = options.dataDirectory ?? (await mkdtemp(path.join(tmpdir(), 'obraz-e2e-')));
    const inherited = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !/^OBRAZ_|^DATABASE_URL$|_PROXY$/i.test(name)),
    );
    const child = spawn(process.execPath, [...nodeFlags, 'src/main.ts', 'serve'], {
      cwd: repository,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        GLIBC_TUNABLES: tunables,
        NODE_COMPILE_CACHE: path.join(repository, 'node_modules/.cache/node'),
        ...inherited,
        OBRAZ_DATA_DIR: dataDirectory,
        OBRAZ_GRPC_ADDRESS: '127.0.0.1:0',
        OBRAZ_TLS_ADDRESS: '127.0.0.1:0',
        OBRAZ_HTTP_ADDRESS: '127.0.0.1:0',
        OBRAZ_NBD_ADDRESS: '127.0.0.1:0',
        OBRAZ_IMPORT_ALLOW: '127.0.0.1/32',
        // Tests change more in a minute than any client does.
        OBRAZ_RATE_SUBJECT_CHANGES_PER_SECOND: '100000',
        ...options.environment,
      },
    });
    return new Obraz(child, dataDirectory, options.dataDirectory !== undefined);
  }

  /** Starts the process and waits, at most 60 s, for `obraz is ready`. */
  static async start(options: ObrazOptions = {}): Promise<Obraz> {
    const obraz = await Obraz.spawn(options);
    try {
      await obraz.waitUntilReady();
      if (options.limits !== 'as set') await raiseLimits(obraz);
      return obraz;
    } catch (error) {
      await obraz[Symbol.asyncDispose]();
      throw error;
    }
  }

  async waitUntilReady(): Promise<void> {
    const deadline = Date.now() + 60_000;
    while (!/^obraz is ready$/m.test(this.output)) {
      if (this.child.exitCode !== null || this.child.signalCode !== null) {
        // Its last words are still on their way.
        await new Promise((resolve) => setTimeout(resolve, 200));
        throw new Error(`obraz ended before it was ready:\n${this.output}`);
      }
      if (Date.now() > deadline) throw new Error(`obraz was not ready within 60 s:\n${this.output}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async bootstrap(): Promise<Bootstrap> {
    return JSON.parse(await this.#file('bootstrap.json')) as Bootstrap;
  }

  token(): Promise<string> {
    return this.#file('admin.token').then((text) => text.trim());
  }

  ca(): Promise<Buffer> {
    return readFile(path.join(this.dataDirectory, 'ca.pem'));
  }

  #file(name: string): Promise<string> {
    return readFile(path.join(this.dataDirectory, name), 'utf8');
  }

  /** Kills it as a crash does: at once, without a word. Its PostgreSQL lives on. */
  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exited;
  }

  /** Stops it as Ctrl-C does, and waits for its end. */
  async stop(): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    this.child.kill('SIGINT');
    return this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill('SIGTERM');
      const timer = setTimeout(() => this.child.kill('SIGKILL'), 20_000);
      await this.exited;
      clearTimeout(timer);
    }
    if (!this.#keepData) await removeDataFolder(this.dataDirectory);
  }
}
