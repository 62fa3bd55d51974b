// How long each stage of an import takes when it is alone: no import can be faster than the slowest of them.
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { run } from './figures.ts';
import type { StageTask } from './import-stage-worker.ts';

export interface StageInput {
  url: string;
  /** The same file, local. */
  file: string;
  /** Bytes of the disk that are not holes. */
  dataBytes: number;
  /** Where the store lies: the disk that is written to. */
  scratch: string;
}

/** Seconds by stage, each with as many threads as an import has. */
export async function stageSeconds({ url, file, dataBytes, scratch }: StageInput): Promise<Record<string, number>> {
  const network = await run('curl', ['-s', '-f', '-o', '/dev/null', url]);
  const unpack = await inThreads({ kind: 'unpack', file });
  const hash = await inThreads({ kind: 'hash', dataBytes });
  // One large file, in the faster of two ways: no store of many objects is faster.
  const writes = [];
  for (const way of [['oflag=direct'], []]) writes.push(await writeOne(scratch, dataBytes, way));
  return { network: network.seconds, unpack, hash, write: Math.min(...writes) };
}

async function writeOne(file: string, bytes: number, flags: readonly string[]): Promise<number> {
  const blockBytes = 4 * 2 ** 20;
  const count = Math.ceil(bytes / blockBytes);
  const { seconds } = await run('dd', [
    'if=/dev/zero',
    `of=${file}`,
    `bs=${blockBytes}`,
    `count=${count}`,
    ...flags,
    'conv=fsync',
  ]);
  await run('rm', ['-f', file]);
  return seconds;
}

/** Threads that have loaded their code before the clock starts; each takes its share. */
async function inThreads(task: StageTask): Promise<number> {
  const threads = Math.min(availableParallelism(), 8);
  const workers = Array.from(
    { length: threads },
    (_, share) => new Worker(new URL('import-stage-worker.ts', import.meta.url), { workerData: { task, share, threads } }),
  );
  await Promise.all(workers.map((worker) => once(worker, 'message')));
  const startedAt = performance.now();
  await Promise.all(
    workers.map((worker) => {
      worker.postMessage('go');
      return once(worker, 'exit');
    }),
  );
  return (performance.now() - startedAt) / 1000;
}
