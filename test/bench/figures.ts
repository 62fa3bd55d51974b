import { spawn, spawnSync } from 'node:child_process';

export const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

export const hasTool = (name: string): boolean => spawnSync('sh', ['-c', `command -v ${name}`]).status === 0;

export interface Run {
  seconds: number;
  /** False when the command failed or was killed at its time limit. */
  ok: boolean;
  stdout: string;
}

/** Runs a command to its end, or kills it after `limitMs`. */
export function run(command: string, args: readonly string[], limitMs = 300_000): Promise<Run> {
  const startedAt = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (part: Buffer) => (stdout += part.toString()));
    child.stderr.on('data', (part: Buffer) => (stderr += part.toString()));
    const timer = setTimeout(() => child.kill('SIGKILL'), limitMs);
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(timer);
      if (code !== 0 && code !== null) console.error(`${command} ${args.join(' ')}: exit ${code}\n${stderr.slice(-500)}`);
      resolve({ seconds: (performance.now() - startedAt) / 1000, ok: code === 0, stdout });
    });
  });
}

/** Prints rows as a table with aligned columns. */
export function table(rows: readonly (readonly string[])[]): void {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const row of rows)
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    );
}

/** What is compared, by name: each answers its rate. */
export type Ways = Record<string, () => Promise<number>>;

/** Runs every way once per round, and prints medians beside the first way's. */
export async function compare(title: string, unit: string, ways: Ways, rounds = 5): Promise<void> {
  const results = new Map<string, number[]>(Object.keys(ways).map((name) => [name, []]));
  for (let round = 0; round < rounds; round += 1)
    for (const [name, way] of Object.entries(ways)) results.get(name)!.push(await way());
  const first = median(results.values().next().value!);
  console.log(`\n${title} (${rounds} rounds in turn, medians)`);
  table([
    ['way', unit, 'ratio', 'least', 'most'],
    ...Array.from(results, ([name, values]) => [
      name,
      median(values).toFixed(0),
      (median(values) / first).toFixed(2),
      Math.min(...values).toFixed(0),
      Math.max(...values).toFixed(0),
    ]),
  ]);
}
