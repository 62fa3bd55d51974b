// Short-lived commands: run to the end, in a process group of their own so that Ctrl-C at the terminal does not tear them, and
// never longer than a bound.
import { spawn } from 'node:child_process';

/** Whom a child runs as; the process itself must be root to choose another than itself. */
export interface ChildUser {
  uid: number;
  gid: number;
  name: string;
}

export interface RunOptions {
  user?: ChildUser | undefined;
  /** The whole environment of the child: nothing is inherited. */
  environment?: Record<string, string>;
  signal?: AbortSignal | undefined;
  timeoutMs: number;
}

export interface RunResult {
  /** Null when a signal ended it. */
  code: number | null;
  /** Standard output and standard error together: the last 64 KiB. */
  output: string;
}

const outputLimit = 64 * 1024;

/** What a child sees when nothing else is said: messages in English, time in UTC, nothing of the caller's. */
export const plainEnvironment: Record<string, string> = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LC_ALL: 'C',
  TZ: 'UTC',
};

/**
 * Runs a command and waits for its end. An exit code other than 0 is an answer, not an error.
 * @throws the spawn error when it cannot be started, signal.reason when aborted, Error when it takes longer than timeoutMs; the
 * command and its group have been killed then.
 */
export async function run(command: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  options.signal?.throwIfAborted();
  const child = spawn(command, args, {
    cwd: '/',
    env: options.environment ?? plainEnvironment,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    ...asUser(options.user),
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => (output = (output + text).slice(-outputLimit)));
  }
  let refusal: unknown;
  const killFor = (reason: unknown) => {
    refusal ??= reason;
    if (child.pid !== undefined) killGroup(child.pid);
  };
  const onAbort = () => killFor(options.signal?.reason);
  options.signal?.addEventListener('abort', onAbort, { once: true });
  const timer = setTimeout(() => killFor(new Error(`${command} did not end within ${options.timeoutMs} ms`)), options.timeoutMs);
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    if (refusal !== undefined) throw refusal;
    return { code, output };
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', onAbort);
  }
}

/** The spawn options that make a child run as `user`. */
export const asUser = (user: ChildUser | undefined): { uid?: number; gid?: number } =>
  user === undefined ? {} : { uid: user.uid, gid: user.gid };

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
