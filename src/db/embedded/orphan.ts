// A PostgreSQL whose service was killed may live on. It is found by the pid that it keeps in its cluster, and known by what it is: a
// process id alone may have been given to someone else since.
import { readFile, readlink, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../platform/child-process.ts';
import { exists } from '../../platform/durable-file.ts';
import { StartError } from '../../platform/start-error.ts';

const pollMs = 20;
// From the polite to the final: fast (clients are cut off, all is written), immediate (recovers at the next start), kill.
const steps = [
  { signal: 'SIGINT', waitMs: 20_000 },
  { signal: 'SIGQUIT', waitMs: 5_000 },
  { signal: 'SIGKILL', waitMs: 5_000 },
] as const;

/**
 * Stops the server that still runs on a cluster, and removes what a dead one left there. The caller holds the home's lock, so no
 * server that is there belongs to anyone.
 * @throws StartError when it cannot be stopped, signal.reason when aborted.
 */
export async function stopOrphan(cluster: string, warn: (message: string) => void, signal?: AbortSignal): Promise<void> {
  const pidFile = path.join(cluster, 'postmaster.pid');
  const text = await readFile(pidFile, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return;
  const pid = Number.parseInt(text, 10);
  if (Number.isSafeInteger(pid) && pid > 1 && (await isPostmaster(pid, cluster))) {
    warn(`stopping PostgreSQL (process ${pid}), which an earlier run left behind`);
    await stop(pid, cluster, signal);
  }
  // PostgreSQL would refuse to start when the pid in it is alive, whoever that is by now.
  await rm(pidFile, { force: true });
}

async function stop(pid: number, cluster: string, signal?: AbortSignal): Promise<void> {
  for (const step of steps) {
    try {
      process.kill(pid, step.signal);
      process.kill(pid, 'SIGCONT');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') return;
      throw new StartError(
        `PostgreSQL (process ${pid}) still runs on ${cluster} and cannot be stopped: ${(error as Error).message}`,
        {
          cause: error,
        },
      );
    }
    const deadline = performance.now() + step.waitMs;
    while (performance.now() < deadline) {
      if (!(await isPostmaster(pid, cluster))) return;
      await sleep(pollMs, undefined, { signal });
    }
  }
  throw new StartError(`PostgreSQL (process ${pid}) still runs on ${cluster} and does not end, not even by kill -9.`);
}

/** Whether the process is a living PostgreSQL server of this cluster. */
export const isPostmaster = async (pid: number, cluster: string): Promise<boolean> =>
  (await exists('/proc/self/stat')) ? isPostmasterByProc(pid, cluster) : isPostmasterByPs(pid, cluster);

// A server works in its cluster's folder: the same folder, by device and inode, however it is called by now. A process of a foreign
// user (EACCES), a dead or an unburied one (ENOENT) is not ours.
async function isPostmasterByProc(pid: number, cluster: string): Promise<boolean> {
  try {
    const [program, works, folder] = await Promise.all([readlink(`/proc/${pid}/exe`), stat(`/proc/${pid}/cwd`), stat(cluster)]);
    // After an update of the dependencies: "…/postgres (deleted)".
    return /^postgres( |$)/.test(path.basename(program)) && works.dev === folder.dev && works.ino === folder.ino;
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw error;
  }
}

async function isPostmasterByPs(pid: number, cluster: string): Promise<boolean> {
  const { code, output } = await run('ps', ['-ww', '-o', 'stat=,command=', '-p', String(pid)], { timeoutMs: 10_000 });
  return code === 0 && !output.trim().startsWith('Z') && /postgres\b/.test(output) && output.includes(`-D ${cluster} `);
}
