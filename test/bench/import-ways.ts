// The ways to bring a disk image from a URL to this machine: ours, and those that people use today.
import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { ObrazClient } from '../support/client.ts';
import { Obraz } from '../support/obraz.ts';
import { run } from './figures.ts';

export interface Job {
  url: string;
  /** For qemu-img -f. */
  format: string;
  /** A folder for what is written. */
  directory: string;
  limitMs: number;
}

export interface Taken {
  /** Until it ended. */
  seconds: number;
  /** Until what it wrote was on the disk, too: what an import of ours always is when it ends. */
  durableSeconds: number;
}

/** Undefined when the way failed or hung beyond the limit. */
type Way = (job: Job) => Promise<Taken | undefined>;

const convert = async ({ directory, limitMs }: Job, source: string, ...options: string[]): Promise<Taken | undefined> => {
  const output = path.join(directory, 'out.raw');
  await rm(output, { force: true });
  const { ok, seconds } = await run('qemu-img', ['convert', ...options, '-O', 'raw', source, output], limitMs);
  if (!ok) return undefined;
  const sync = await run('sync', [output]);
  return { seconds, durableSeconds: seconds + sync.seconds };
};

export const httpPeers: Readonly<Record<string, Way>> = {
  'qemu-img URL': (job) => convert(job, job.url, '-f', job.format),
  'qemu-img URL -m 16 -W': (job) => convert(job, job.url, '-f', job.format, '-m', '16', '-W'),
  'qemu-img URL, read-ahead': (job) => {
    const file = { driver: 'http', url: job.url, readahead: 8 * 1024 * 1024 };
    return convert(job, `json:${JSON.stringify({ driver: job.format, file })}`);
  },
  'curl, then qemu-img': async (job) => {
    const copy = path.join(job.directory, 'copy');
    const download = await run('curl', ['-sS', '-f', '-o', copy, job.url], job.limitMs);
    const converted = await convert(job, copy, '-f', job.format);
    await rm(copy, { force: true });
    if (converted === undefined || !download.ok) return undefined;
    const { seconds, durableSeconds } = converted;
    return { seconds: download.seconds + seconds, durableSeconds: download.seconds + durableSeconds };
  },
};

export const localPeer = (file: string): Way => {
  return (job) => convert(job, file, '-f', job.format);
};

export interface OurRun {
  /** From Create to done, which is durable. */
  seconds: number;
  peakBytes: number;
}

/** Often enough for the figure, and not so often that answering and asking take a share of the cores. */
const pollMs = 50;

/** One import by a service of its own, so that nothing is stored already and the peak is this import's. */
export async function importOnce({ url, limitMs }: Pick<Job, 'url' | 'limitMs'>): Promise<OurRun> {
  await using obraz = await Obraz.start({ environment: { OBRAZ_LOG_LEVEL: 'warn' } });
  using client = await ObrazClient.of(obraz);
  const startedAt = performance.now();
  const done = await client.wait(
    await client.createImage({ name: 'bench', source: { $case: 'uri', value: url } }),
    limitMs,
    pollMs,
  );
  const seconds = (performance.now() - startedAt) / 1000;
  await client.image(done);
  const status = await readFile(`/proc/${obraz.child.pid}/status`, 'utf8').catch(() => '');
  return { seconds, peakBytes: Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? Number.NaN) * 1024 };
}
