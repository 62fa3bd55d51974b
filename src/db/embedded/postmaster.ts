// One run of the server's process: started by us, in a session of its own so that Ctrl-C at the terminal does not reach it, and stopped
// by us. Beside it stands a watcher, a shell that waits on a pipe from this process: when this process dies without a word (kill -9),
// the pipe closes and the watcher stops the server.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { asUser, plainEnvironment } from '../../platform/child-process.ts';
import { StartError } from '../../platform/start-error.ts';
import type { Cluster } from './cluster.ts';
import type { ServerLog } from './server-log.ts';

export interface PostmasterOptions {
  program: string;
  cluster: Cluster;
  configFile: string;
  log: ServerLog;
  warn: (message: string) => void;
  signal?: AbortSignal | undefined;
}

const pollMs = 5;
// After a crash the server repeats what its log holds (at most max_wal_size or so) before it is ready.
const readyTimeoutMs = 300_000;
const stillStartingMs = 10_000;
// Processes of a server that was killed end by themselves when they notice.
const memoryInUse = 'pre-existing shared memory block';
const memoryTimeoutMs = 15_000;
// Connections that their clients have just closed need a moment to be gone; cut off instead, they would be logged as failures.
const smartStopMs = 1_000;
const fastStopMs = 30_000;
const immediateStopMs = 5_000;

/** PostgreSQL's own names: wait for clients to leave (here: a second, then as fast), cut them off, or stop as a crash does. */
export type StopMode = 'smart' | 'fast' | 'immediate';

export class Postmaster {
  readonly pid: number;
  /** Resolves when the process has ended, whatever ended it. */
  readonly exited: Promise<void>;
  readonly #child: ChildProcess;
  readonly #watcher: ChildProcess;

  private constructor(child: ChildProcess, cluster: Cluster) {
    this.#child = child;
    this.pid = child.pid!;
    this.exited = new Promise((resolve) => child.once('exit', () => resolve()));
    this.#watcher = watch(child.pid!, cluster);
    // What keeps the service alive is its work, not its database.
    child.unref();
  }

  /** Starts the server and waits until it takes connections. @throws StartError with the end of its log. */
  static async start(options: PostmasterOptions): Promise<Postmaster> {
    const deadline = performance.now() + memoryTimeoutMs;
    for (;;) {
      const postmaster = await Postmaster.#spawn(options);
      try {
        await postmaster.#ready(options);
        return postmaster;
      } catch (error) {
        await postmaster.stop('immediate');
        options.signal?.throwIfAborted();
        if (!(error as Error).message.includes(memoryInUse) || performance.now() > deadline) throw error;
        await sleep(200, undefined, { signal: options.signal });
      }
    }
  }

  static async #spawn({ program, cluster, configFile, log }: PostmasterOptions): Promise<Postmaster> {
    const output = await log.openForStart();
    try {
      const child = spawn(program, ['-D', cluster.folder, '-c', `config_file=${configFile}`], {
        cwd: '/',
        env: plainEnvironment,
        detached: true,
        stdio: ['ignore', output.fd, output.fd],
        ...asUser(cluster.user),
      });
      if (child.pid === undefined) {
        const [error] = (await once(child, 'error')) as [Error];
        throw new StartError(`PostgreSQL cannot be started: ${error.message}`, { cause: error });
      }
      return new Postmaster(child, cluster);
    } finally {
      await output.close();
    }
  }

  // The server writes its state into the eighth line of its pid file: "ready   " when it takes connections.
  async #ready({ cluster, log, warn, signal }: PostmasterOptions): Promise<void> {
    const file = path.join(cluster.folder, 'postmaster.pid');
    const begin = performance.now();
    let warnAt = begin + stillStartingMs;
    while (this.running) {
      signal?.throwIfAborted();
      const lines = (await readFile(file, 'utf8').catch(() => '')).split('\n');
      if (Number(lines[0]) === this.pid && lines[7]?.trim() === 'ready') return;
      const now = performance.now();
      if (now > begin + readyTimeoutMs) break;
      if (now > warnAt) {
        warn(`PostgreSQL is still starting; its log is ${log.file}`);
        warnAt = now + stillStartingMs;
      }
      await sleep(pollMs);
    }
    const what = this.running ? `is not ready after ${readyTimeoutMs / 1000} s` : 'ended at its start';
    throw new StartError(`PostgreSQL ${what}; the end of its log ${log.file}:\n${await log.tail()}`);
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Stops the server and waits for its end, by the next harder way when one takes longer than its bound. */
  async stop(mode: StopMode): Promise<void> {
    this.#child.ref();
    if (mode === 'smart') await this.#signal('SIGTERM', smartStopMs);
    if (mode !== 'immediate') await this.#signal('SIGINT', fastStopMs);
    await this.#signal('SIGQUIT', immediateStopMs);
    await this.#signal('SIGKILL', immediateStopMs);
    await dismiss(this.#watcher);
  }

  async #signal(signal: NodeJS.Signals, waitMs: number): Promise<void> {
    if (!this.running) return;
    this.#child.kill(signal);
    const end = new AbortController();
    await Promise.race([this.exited, sleep(waitMs, undefined, { signal: end.signal }).catch(() => {})]);
    end.abort();
  }
}

// Told a line, the watcher goes home. At the end of the pipe it stops the server, if the cluster still says it is that one.
const watchScript = 'read -r _ && exit; [ "$(head -n 1 "$2" 2>/dev/null)" = "$1" ] && kill -INT "$1"';

function watch(pid: number, cluster: Cluster): ChildProcess {
  const watcher = spawn('/bin/sh', ['-c', watchScript, 'obraz-watch', String(pid), path.join(cluster.folder, 'postmaster.pid')], {
    cwd: '/',
    env: plainEnvironment,
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
    ...asUser(cluster.user),
  });
  // Without a watcher an orphan waits for the next start to be found.
  watcher.on('error', () => {});
  watcher.stdin.on('error', () => {});
  watcher.unref();
  (watcher.stdin as unknown as { unref(): void }).unref();
  return watcher;
}

async function dismiss(watcher: ChildProcess): Promise<void> {
  if (watcher.pid === undefined || watcher.exitCode !== null || watcher.signalCode !== null) return;
  watcher.ref();
  const ended = once(watcher, 'exit');
  watcher.stdin!.end('\n');
  const end = new AbortController();
  await Promise.race([ended, sleep(1_000, undefined, { signal: end.signal }).catch(() => {})]);
  end.abort();
}
