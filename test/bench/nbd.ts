// The NBD server itself, over a device in memory, against qemu-nbd that serves the same bytes from a file in memory: `qemu-img bench` on
// both in turn. What real devices add is not in here.
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, readFileSync } from 'node:fs';
import { access, mkdtemp, rm } from 'node:fs/promises';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { hasTool, median, run, table } from './figures.ts';

const sizeBytes = 256 * 1024 * 1024;
const rounds = 5;

interface Work {
  name: string;
  goal: number;
  requests: number;
  bytes: number;
  args: string[];
}

/** A step that is odd in units of 4 KiB visits every block, and no two neighbours one after the other. */
const randomly = ['-s', '4096', '-S', String(4096 * 7919)];
const works: Work[] = [
  { name: 'random 4 KiB reads, depth 1', goal: 0.5, requests: 20_000, bytes: 4096, args: [...randomly, '-d', '1'] },
  { name: 'random 4 KiB reads, depth 64', goal: 0.5, requests: 60_000, bytes: 4096, args: [...randomly, '-d', '64'] },
  { name: 'sequential 1 MiB reads, depth 8', goal: 0.8, requests: 1500, bytes: 2 ** 20, args: ['-s', '1048576', '-d', '8'] },
  { name: 'sequential 2 MiB reads, depth 1', goal: 0.8, requests: 600, bytes: 2 ** 21, args: ['-s', '2097152', '-d', '1'] },
  {
    name: 'sequential 1 MiB writes, depth 8',
    goal: 0.8,
    requests: 1500,
    bytes: 2 ** 20,
    args: ['-w', '-s', '1048576', '-d', '8'],
  },
  {
    name: 'sequential 2 MiB writes, depth 1',
    goal: 0.8,
    requests: 600,
    bytes: 2 ** 21,
    args: ['-w', '-s', '2097152', '-d', '1'],
  },
  { name: 'random 4 KiB writes, depth 64', goal: 0.5, requests: 60_000, bytes: 4096, args: ['-w', ...randomly, '-d', '64'] },
];

export async function benchNbd(): Promise<void> {
  for (const tool of ['qemu-img', 'qemu-nbd']) {
    if (hasTool(tool)) continue;
    console.warn(`SKIPPED: ${tool} is not installed`);
    return;
  }
  const memory = await access('/dev/shm').then(
    () => '/dev/shm',
    () => tmpdir(),
  );
  const directory = await mkdtemp(path.join(memory, 'obraz-bench-nbd-'));
  const servers: ChildProcess[] = [];
  try {
    const file = path.join(directory, 'disk.raw');
    await makeFile(file);
    const ours = path.join(directory, 'ours.sock');
    const theirs = path.join(directory, 'theirs.sock');
    const ourServer = spawn(process.execPath, [path.join(import.meta.dirname, 'nbd-server.ts'), file, ours], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    servers.push(ourServer);
    await once(ourServer.stdout, 'data');
    const theirServer = spawn('qemu-nbd', ['-t', '-k', theirs, '-f', 'raw', '-x', 'disk', '--cache=writeback', file], {
      stdio: 'inherit',
    });
    servers.push(theirServer);
    for (let tries = 0; tries < 200; tries += 1) {
      if (
        await access(theirs).then(
          () => true,
          () => false,
        )
      )
        break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const rows = [['work', 'ours', 'qemu-nbd', 'ratio', 'goal', 'processor time per request, ours : qemu-nbd']];
    for (const work of works) rows.push(await compare(work, [ours, ourServer], [theirs, theirServer]));
    table(rows);
  } finally {
    for (const server of servers) server.kill();
    await rm(directory, { recursive: true, force: true });
  }
}

async function compare(work: Work, ...sides: [string, ChildProcess][]): Promise<string[]> {
  const seconds: number[][] = [[], []];
  const busy: number[] = [0, 0];
  for (let round = 0; round < rounds; round += 1) {
    for (const [side, [socket, server]] of sides.entries()) {
      const before = processorSeconds(server);
      const uri = `nbd+unix:///disk?socket=${socket}`;
      const args = ['bench', '-f', 'raw', '-t', 'none', '--pattern=171', '-c', String(work.requests), ...work.args, uri];
      const { ok, stdout } = await run(
        'qemu-img',
        work.args.includes('-w') ? args : args.filter((arg) => !arg.startsWith('--p')),
      );
      const said = /completed in ([\d.]+) seconds/.exec(stdout)?.[1];
      if (!ok || said === undefined) throw new Error(`qemu-img bench failed: ${work.name}`);
      seconds[side]!.push(Number(said));
      busy[side]! += processorSeconds(server) - before;
    }
  }
  const shown = (side: number): string => {
    const perSecond = work.requests / median(seconds[side]!);
    return work.bytes > 4096 ? `${((perSecond * work.bytes) / 1e6).toFixed(0)} MB/s` : `${perSecond.toFixed(0)}/s`;
  };
  const microseconds = (side: number): string => ((busy[side]! * 1e6) / work.requests / rounds).toFixed(1);
  const ratio = median(seconds[0]!.map((ours, round) => seconds[1]![round]! / ours));
  return [work.name, shown(0), shown(1), ratio.toFixed(2), work.goal.toFixed(1), `${microseconds(0)} : ${microseconds(1)} µs`];
}

/** User and system time so far; not a number where there is no /proc. */
function processorSeconds({ pid }: ChildProcess): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return Number.NaN;
  }
}

/** Bytes without zeros: what could be left out of an answer would measure nothing. */
async function makeFile(file: string): Promise<void> {
  const block = Buffer.alloc(2 ** 20);
  for (let at = 0; at < block.length; at += 1) block[at] = 1 + (at % 255);
  const output = createWriteStream(file);
  for (let written = 0; written < sizeBytes; written += block.length) {
    if (!output.write(block)) await once(output, 'drain');
  }
  output.end();
  await once(output, 'close');
}
