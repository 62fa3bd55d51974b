// The range reader in one and two threads against curl, for the same URL of the same nginx: near, and 20 ms of round trip away.
import { once } from 'node:events';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { randomBytes } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import { probeSource } from '../../src/sources/probe.ts';
import { parseImportAllow, UrlPolicy } from '../../src/sources/url-policy.ts';
import { startDelayingProxy } from '../support/delaying-proxy.ts';
import { hasTool, median, run, table } from './figures.ts';
import { serveFolder } from './nginx.ts';
import type { ReadTask } from './sources-worker.ts';

const mebibyte = 1024 * 1024;
const partBytes = 4 * mebibyte;
const rounds = 5;

interface Way {
  name: string;
  /** Seconds. */
  fetch: (url: string) => Promise<number>;
}

const ways: Way[] = [
  { name: 'curl', fetch: async (url) => (await run('curl', ['-s', '-f', '-o', '/dev/null', url])).seconds },
  { name: '1 thread, 4 connections', fetch: (url) => readInThreads(url, 1, 4) },
  { name: '2 threads, 4 connections each', fetch: (url) => readInThreads(url, 2, 4) },
  { name: '2 threads, 8 connections each', fetch: (url) => readInThreads(url, 2, 8) },
];

export async function benchSources(): Promise<void> {
  if (!hasTool('nginx') || !hasTool('curl')) return console.warn('SKIPPED: nginx and curl are needed');
  const directory = await mkdtemp(path.join(tmpdir(), 'obraz-bench-sources-'));
  try {
    await using server = await serveFolder(directory);
    await writeNoise(path.join(directory, 'far.bin'), 256);
    await writeNoise(path.join(directory, 'near.bin'), 1024);
    await using proxy = await startDelayingProxy({ port: Number(new URL(server.url).port), oneWayMs: 10 });
    await compare('1 GiB from nginx on this machine', `${server.url}/near.bin`, 1024);
    await compare('256 MiB from nginx, 10 ms away each way', `http://127.0.0.1:${proxy.port}/far.bin`, 256);
  } finally {
    await rm(directory, { recursive: true });
  }
}

async function compare(title: string, url: string, mebibytes: number): Promise<void> {
  const seconds = new Map(ways.map((way) => [way, [] as number[]]));
  // Interleaved, so that whatever else the machine does meets all of them; the first round warms caches and is not counted.
  for (let round = 0; round <= rounds; round += 1) {
    for (const way of ways) {
      const taken = await way.fetch(url);
      if (round > 0) seconds.get(way)!.push(taken);
    }
  }
  const medianOf = (way: Way) => median(seconds.get(way)!);
  const curl = medianOf(ways[0]!);
  console.log(`\n${title}, median of ${rounds}`);
  table([
    ['way', 'MiB/s', 'rate to curl'],
    ...ways.map((way) => [way.name, (mebibytes / medianOf(way)).toFixed(0), (curl / medianOf(way)).toFixed(2)]),
  ]);
}

/** Seconds from the go to the last byte; probe and start of the threads are not counted. */
async function readInThreads(url: string, threads: number, partsAtOnce: number): Promise<number> {
  const info = await probeSource(url, new UrlPolicy({ allow: parseImportAllow('127.0.0.1'), publicPorts: [] }));
  const workers = await Promise.all(
    Array.from({ length: threads }, async (_, index) => {
      const workerData: ReadTask = { info, partBytes, index, threads, partsAtOnce };
      const worker = new Worker(new URL('./sources-worker.ts', import.meta.url), { workerData });
      await once(worker, 'message');
      return worker;
    }),
  );
  const startedAt = performance.now();
  const fetched = await Promise.all(
    workers.map(async (worker) => {
      worker.postMessage('go', []);
      return ((await once(worker, 'message')) as [number])[0];
    }),
  );
  const taken = (performance.now() - startedAt) / 1000;
  const total = fetched.reduce((sum, count) => sum + count, 0);
  if (total !== info.sizeBytes) throw new Error(`${total} bytes were fetched of ${info.sizeBytes}`);
  await Promise.all(workers.map((worker) => worker.terminate()));
  return taken;
}

async function writeNoise(file: string, mebibytes: number): Promise<void> {
  await using handle = await open(file, 'w');
  const noise = randomBytes(16 * mebibyte);
  for (let written = 0; written < mebibytes; written += 16) await handle.write(noise);
}

if (import.meta.main) await benchSources();
