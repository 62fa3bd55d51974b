// qemu-nbd serving a file on a Unix socket, and what a server's process has used of the processors.
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { NbdClient, request } from '../support/nbd-client.ts';

export interface NbdExport {
  uri: string;
  socketPath: string;
  exportName: string;
  /** The server's process. */
  pid: number;
}

export interface QemuNbd extends NbdExport, AsyncDisposable {}

/** Cached writes, as ours are; its own threads for the file (aio=threads), the default. */
export async function serveWithQemu(file: string, format: string, options: { readOnly?: boolean } = {}): Promise<QemuNbd> {
  const socketPath = `${file}.sock`;
  await rm(socketPath, { force: true });
  const mode = options.readOnly === true ? ['--read-only', '--shared=8'] : ['--discard=unmap'];
  const args = ['--persistent', '--cache=writeback', `--format=${format}`, ...mode, `--socket=${socketPath}`, '-x', 'disk', file];
  const child = spawn('qemu-nbd', args, { stdio: ['ignore', 'inherit', 'inherit'] });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  await accepting(child, socketPath);
  return {
    uri: `nbd+unix:///disk?socket=${socketPath}`,
    socketPath,
    exportName: 'disk',
    pid: child.pid!,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await exited;
      await rm(socketPath, { force: true });
    },
  };
}

async function accepting(child: ChildProcess, socketPath: string): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt += 1) {
    if (child.exitCode !== null) break;
    try {
      using client = await NbdClient.opened(socketPath, 'disk');
      client.send(request('disconnect'));
      return;
    } catch {
      // Not yet.
    }
    await sleep(20);
  }
  throw new Error('qemu-nbd did not start');
}

const ticksPerSecond = 100;

/** User and system time of all its threads so far. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

export function exportOf(uri: string, pid: number): NbdExport {
  const url = new URL(uri);
  return { uri, pid, socketPath: url.searchParams.get('socket')!, exportName: decodeURIComponent(url.pathname.slice(1)) };
}
