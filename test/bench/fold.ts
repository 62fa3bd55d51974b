// What a commit of scattered writes costs: every chunk of the disk is touched, so that all of it is read, checked, and written anew. Against
// a full copy of the same bytes and against durable writes of as many files, in turn, in one run. `OBRAZ_TEST_BENCH_CHUNKS` is how large
// the disk is, in chunks of 4 MiB.
import { randomFillSync } from 'node:crypto';
import fs from 'node:fs';
import { mkdir, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { PageAddress } from '../../src/storage/address.ts';
import { ChunkBuffer } from '../../src/storage/chunk-encoder.ts';
import { openLayerView } from '../../src/storage/layer-view.ts';
import { openStorage, type Storage } from '../../src/storage/open.ts';
import { fold } from '../../src/storage/overlay/fold.ts';
import { createGeneration } from '../../src/storage/overlay/generation.ts';
import { openWritableOverlay } from '../../src/storage/overlay/writable-overlay.ts';
import { allocatePageAligned } from '../../src/storage/page-aligned.ts';
import { chunkBytes } from '../../src/storage/sizes.ts';
import { median, run, table } from './figures.ts';

const chunkCount = Number(process.env['OBRAZ_TEST_BENCH_CHUNKS'] ?? 128);
const rounds = Number(process.env['OBRAZ_TEST_BENCH_ROUNDS'] ?? 5);
const sizeBytes = chunkCount * chunkBytes;
/** 1 % of the disk in sectors of 4 KiB. */
const stepBytes = 409_600;

interface Cost {
  seconds: number;
  /** Of this process, where the work is its own. */
  cpuSeconds: number;
}

export async function benchFold(): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'obraz-bench-'));
  try {
    await using storage = await openStorage({ directory: path.join(directory, 'store'), threads: 2 });
    const plain = path.join(directory, 'plain');
    let root = await fill(storage, plain);
    let generation = 0;
    const folded = (concurrency?: number) => async (): Promise<Cost> => {
      generation += 1;
      const { cost, newRoot } = await foldScattered(storage, root, path.join(directory, `log-${generation}`), concurrency);
      root = newRoot;
      return cost;
    };
    const ways: Record<string, () => Promise<Cost>> = {
      'cp --sparse=always, sync': () => copied(plain, path.join(directory, 'copy')),
      'files of 4 MiB, O_DIRECT, fdatasync each, 4 at once': () => writeFiles(path.join(directory, 'files')),
      'fold, 2 chunks at once': folded(2),
      'fold, 4 chunks at once': folded(4),
      'fold, as many as the threads take': folded(),
    };
    const results = new Map<string, Cost[]>(Object.keys(ways).map((name) => [name, []]));
    for (let round = 0; round < rounds; round += 1)
      for (const [name, way] of Object.entries(ways)) results.get(name)!.push(await way());
    const first = results.values().next().value!;
    console.log(`\n1 % of ${(sizeBytes / 2 ** 20).toFixed(0)} MiB changed, all over it (${rounds} rounds in turn, medians)`);
    table([
      ['way', 'seconds', 'it / first', 'least', 'most', 'CPU s of this process'],
      ...Array.from(results, ([name, costs]) => {
        const ratios = costs.map(({ seconds }, round) => seconds / first[round]!.seconds);
        return [
          name,
          median(costs.map(({ seconds }) => seconds)).toFixed(2),
          median(ratios).toFixed(2),
          Math.min(...ratios).toFixed(2),
          Math.max(...ratios).toFixed(2),
          median(costs.map(({ cpuSeconds }) => cpuSeconds)).toFixed(2),
        ];
      }),
    ]);
    console.log(`peak resident memory: ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MiB`);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function timed<T>(work: () => Promise<T>): Promise<{ cost: Cost; value: T }> {
  const before = process.cpuUsage();
  const startedAt = performance.now();
  const value = await work();
  const { user, system } = process.cpuUsage(before);
  return { cost: { seconds: (performance.now() - startedAt) / 1000, cpuSeconds: (user + system) / 1e6 }, value };
}

/** The same bytes as a layer and as a file. */
async function fill(storage: Storage, plain: string): Promise<PageAddress> {
  const file = await open(plain, 'w');
  const chunk = new ChunkBuffer();
  const builder = await storage.layers.build();
  for (let index = 0; index < chunkCount; index += 1) {
    randomFillSync(chunk.data);
    builder.set(index, await storage.chunks.store(chunk));
    await file.write(chunk.data);
  }
  await file.datasync();
  await file.close();
  return builder.flush();
}

async function copied(source: string, target: string): Promise<Cost> {
  await rm(target, { force: true });
  const { cost } = await timed(async () => {
    await run('cp', ['--sparse=always', source, target]);
    await run('sync', [target]);
  });
  return cost;
}

async function writeFiles(folder: string): Promise<Cost> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder);
  const bytes = allocatePageAligned(chunkBytes);
  randomFillSync(bytes);
  const { O_WRONLY, O_CREAT, O_DIRECT } = fs.constants;
  let next = 0;
  const write = async (): Promise<void> => {
    while (next < chunkCount) {
      const file = await open(path.join(folder, String(next++)), O_WRONLY | O_CREAT | O_DIRECT, 0o600);
      await file.write(bytes, 0, bytes.length, 0);
      await file.datasync();
      await file.close();
    }
  };
  return (await timed(() => Promise.all(Array.from({ length: 4 }, write)))).cost;
}

async function foldScattered(
  storage: Storage,
  root: PageAddress,
  log: string,
  concurrency: number | undefined,
): Promise<{ cost: Cost; newRoot: PageAddress }> {
  const base = await openLayerView(storage, root, sizeBytes);
  const written = await createGeneration(log, { diskId: 'bench', generation: 1 }, sizeBytes);
  const next = await createGeneration(`${log}-next`, { diskId: 'bench', generation: 2 }, sizeBytes);
  await using overlay = openWritableOverlay({ storage, base, sealed: [], open: written, sizeBytes });
  const sector = randomFillSync(Buffer.alloc(4096));
  for (let offset = 0; offset < sizeBytes; offset += stepBytes) await overlay.write(sector, offset, false);
  const sealed = await overlay.rotate(next, () => Promise.resolve());
  const { signal } = new AbortController();
  const { cost, value } = await timed(() => fold({ storage, base: root, generations: [sealed], sizeBytes, concurrency, signal }));
  await rm(log);
  await rm(`${log}-next`);
  return { cost, newRoot: value.root };
}
