// The service's own PostgreSQL: everything that a person would do by hand with initdb and pg_ctl, from a data folder to a URL. Start
// and stop are steps in a fixed order; each file beside this one is one step.
import { chmod, realpath, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { exists } from '../../platform/durable-file.ts';
import { takeExclusiveLock } from '../../platform/exclusive-lock.ts';
import { StartError } from '../../platform/start-error.ts';
import { defaultCaches, locateBinaries } from './binaries.ts';
import { clusterHome } from './cluster-home.ts';
import { openCluster } from './cluster.ts';
import { stopOrphan } from './orphan.ts';
import { Postmaster, type StopMode } from './postmaster.ts';
import { database, ensureDatabase, role } from './roles.ts';
import { ServerLog } from './server-log.ts';
import { serverUser } from './server-user.ts';
import { port, postgresqlConf } from './settings.ts';
import { makeSocketFolder, removeSocketFolder } from './socket-folder.ts';

export interface EmbeddedPostgresOptions {
  /** The service's data folder; it exists. */
  dataDir: string;
  /** Hears what an operator should know. */
  log?: { info(message: string): void; warn(message: string): void } | undefined;
  /** Abandons the start: what has been started is stopped, and the reason is thrown. */
  signal?: AbortSignal | undefined;
  /** False for tests: faster, and lost when the operating system crashes. */
  durable?: boolean;
}

export interface Connection {
  /** A folder: the connection is a Unix socket in it. */
  host: string;
  port: number;
  user: string;
  password: string;
  database: string;
}

export interface EmbeddedPostgres extends AsyncDisposable {
  /** For node-postgres and what is built on it: the socket's folder stands, encoded, in the place of the host. */
  readonly url: string;
  readonly connection: Connection;
  /** Of the server's process now. */
  readonly pid: number;
  /** Resolves when the server has ended though nobody here stopped it; the service cannot go on then. */
  readonly failed: Promise<Error>;
  /** Stops the server (`immediate`: as a crash would; default: fast) and starts it again. For tests. */
  restart(mode?: StopMode): Promise<void>;
}

/**
 * Starts PostgreSQL on the data folder, after making its cluster where there is none, and after stopping one that a killed run left.
 * @throws StartError that says what is wrong and what to do; signal.reason when aborted.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { signal, durable = true } = options;
  const warn = (message: string): void => options.log?.warn(message);
  signal?.throwIfAborted();
  forgetOtherServers();
  await using undo = new AsyncDisposableStack();

  const user = await serverUser();
  const home = await clusterHome(await realpath(options.dataDir), user);
  undo.use(await lockHome(home));
  const binaries = await locateBinaries({ user, caches: defaultCaches(user, home), signal });
  const cluster = await openCluster(home, { binaries, user, durable, signal });
  await stopOrphan(cluster.folder, warn, signal);

  const socketFolder = await makeSocketFolder(home, cluster.user);
  undo.defer(() => removeSocketFolder(home));
  const configFile = await writeConfig(home, socketFolder, durable);
  const log = undo.use(await ServerLog.open(path.join(home, 'postgres.log')));

  const start = (startSignal?: AbortSignal): Promise<Postmaster> =>
    Postmaster.start({ program: binaries.postgres, cluster, configFile, log, warn, signal: startSignal });
  const server = undo.use(new Server(await start(signal), start, log.file));
  const connection = { host: socketFolder, port, user: role, password: cluster.password, database };
  await ensureDatabase({ host: socketFolder, port, password: cluster.password });
  signal?.throwIfAborted();

  const owned = undo.move();
  let disposal: Promise<void> | undefined;
  return {
    connection,
    url: urlOf(connection),
    get pid() {
      return server.pid;
    },
    failed: server.failed,
    restart: (mode) => server.restart(mode),
    [Symbol.asyncDispose]: () => (disposal ??= owned.disposeAsync()),
  };
}

/** The server through its restarts. */
class Server implements AsyncDisposable {
  readonly failed: Promise<Error>;
  readonly #start: () => Promise<Postmaster>;
  readonly #logFile: string;
  #reportFailure: (error: Error) => void = () => {};
  #postmaster: Postmaster;
  /** The one that may end without being a failure. */
  #leaving: Postmaster | undefined;
  /** Restarts and the stop wait for each other. */
  #turn: Promise<void> = Promise.resolve();

  constructor(postmaster: Postmaster, start: () => Promise<Postmaster>, logFile: string) {
    this.failed = new Promise((resolve) => (this.#reportFailure = resolve));
    this.#start = start;
    this.#logFile = logFile;
    this.#postmaster = postmaster;
    this.#observe(postmaster);
  }

  get pid(): number {
    return this.#postmaster.pid;
  }

  restart(mode: StopMode = 'fast'): Promise<void> {
    return this.#inTurn(async () => {
      await this.#stop(mode);
      this.#postmaster = await this.#start();
      this.#observe(this.#postmaster);
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#inTurn(() => this.#stop('smart'));
  }

  async #stop(mode: StopMode): Promise<void> {
    this.#leaving = this.#postmaster;
    await this.#postmaster.stop(mode);
  }

  #observe(postmaster: Postmaster): void {
    void postmaster.exited.then(() => {
      if (this.#leaving !== postmaster) {
        this.#reportFailure(new Error(`PostgreSQL has ended though nobody stopped it; its log is ${this.#logFile}`));
      }
    });
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => {});
    return turn;
  }
}

// node-postgres fills in from PGSSLMODE, PGOPTIONS and the like what a caller does not say: they speak of another server.
function forgetOtherServers(): void {
  for (const name of Object.keys(process.env)) if (name.startsWith('PG')) delete process.env[name];
}

async function writeConfig(home: string, socketFolder: string, durable: boolean): Promise<string> {
  const file = path.join(home, 'postgresql.conf');
  const own = path.join(home, 'postgresql.local.conf');
  await writeFile(file, postgresqlConf({ localFile: (await exists(own)) ? own : undefined, socketFolder, durable }));
  // The server's user reads it, whatever the umask is.
  await chmod(file, 0o644);
  return file;
}

async function lockHome(home: string): Promise<Disposable> {
  const lock = await takeExclusiveLock(path.join(home, 'lock'));
  if (lock !== undefined) return lock;
  throw new StartError(
    `The database in ${home} is in use by another process: of a copy of this data folder, if not of the folder itself. ` +
      'Stop that process, or choose another folder with OBRAZ_DATA_DIR.',
  );
}

const urlOf = ({ host, port: number, user, password, database: name }: Connection): string =>
  `postgresql://${user}:${encodeURIComponent(password)}@${encodeURIComponent(host)}:${number}/${name}`;
