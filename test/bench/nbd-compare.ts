// Runs one load in turn on ours and on its peers, and prints each one's rate, processor time, and the ratio of ours to it.
import { median, run, table } from './figures.ts';
import { type NbdExport, cpuSeconds } from './nbd-peers.ts';
import { type RandomLoad, randomLoad } from './nbd-load.ts';

export interface Measured {
  /** MB or operations. */
  amount: number;
  seconds: number;
}

/** Ours comes first. An export is asked for before each run: a ticket expires. */
export type Servers = Readonly<Record<string, () => Promise<NbdExport>>>;

export interface Comparison {
  title: string;
  unit: 'MB' | 'operations';
  /** Of ours to the first peer. */
  goal?: number;
  rounds: number;
  /** After each run, not measured: waits until nothing goes on behind it. */
  settle?: (name: string) => Promise<void>;
}

export async function compare(
  { title, unit, goal, rounds, settle }: Comparison,
  servers: Servers,
  load: (server: NbdExport, round: number, onWarm: () => void) => Promise<Measured>,
): Promise<void> {
  const names = Object.keys(servers);
  const results = new Map(names.map((name) => [name, [] as { rate: number; cpu: number }[]]));
  for (let round = 0; round < rounds; round += 1)
    for (const name of names) {
      const server = await servers[name]!();
      let before = cpuSeconds(server.pid);
      const { amount, seconds } = await load(server, round, () => (before = cpuSeconds(server.pid)));
      const cpu = ((cpuSeconds(server.pid) - before) * 1e6) / amount;
      results.get(name)!.push({ rate: amount / seconds, cpu });
      await settle?.(name);
    }
  const ours = results.get(names[0]!)!;
  console.log(`\n${title} (${rounds} rounds in turn, medians${goal === undefined ? '' : `; goal: ${goal}`})`);
  table([
    [
      'server',
      `${unit}/s`,
      'ours / it',
      'least',
      'most',
      `server's CPU, µs per ${unit === 'MB' ? 'MB' : 'operation'}`,
      'ours / it',
    ],
    ...names.map((name, index) => {
      const its = results.get(name)!;
      const ratios = its.map(({ rate }, round) => ours[round]!.rate / rate);
      const cpu = median(its.map((each) => each.cpu));
      const own = index === 0;
      return [
        name,
        median(its.map(({ rate }) => rate)).toFixed(0),
        own ? '' : median(ratios).toFixed(2),
        own ? '' : Math.min(...ratios).toFixed(2),
        own ? '' : Math.max(...ratios).toFixed(2),
        cpu.toFixed(1),
        own ? '' : (median(ours.map((each) => each.cpu)) / cpu).toFixed(2),
      ];
    }),
  ]);
}

export const random =
  (load: Omit<RandomLoad, 'socketPath' | 'exportName' | 'seed' | 'onWarm'>) =>
  async ({ socketPath, exportName }: NbdExport, round: number, onWarm: () => void): Promise<Measured> => {
    const { operations, seconds } = await randomLoad({ ...load, socketPath, exportName, seed: round + 1, onWarm });
    return { amount: operations, seconds };
  };

const requestBytes = 1024 * 1024;

/** qemu-img bench: 1 MiB requests, 8 under way, from the start on. Its own clock: without the process's start. */
export const sequential =
  (totalBytes: number, ...options: string[]) =>
  async ({ uri }: NbdExport): Promise<Measured> => {
    const count = String(totalBytes / requestBytes);
    const args = ['bench', '-f', 'raw', '-d', '8', '-s', String(requestBytes), '-c', count, ...options, uri];
    const { stdout } = await must('qemu-img', args);
    return { amount: totalBytes / 1e6, seconds: Number(/completed in ([\d.]+) seconds/.exec(stdout)![1]) };
  };

/** The whole export, or all of a file into it. With the process's start. */
export const copy =
  (totalBytes: number, source?: string) =>
  async ({ uri }: NbdExport): Promise<Measured> => {
    const ends = source === undefined ? [uri, 'null:'] : ['--flush', source, uri];
    const { seconds } = await must('nbdcopy', ends);
    return { amount: totalBytes / 1e6, seconds };
  };

export async function must(command: string, args: readonly string[]): Promise<{ seconds: number; stdout: string }> {
  const done = await run(command, args);
  if (!done.ok) throw new Error(`${command} ${args.join(' ')} failed`);
  return done;
}
