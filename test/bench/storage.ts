// The store in a local folder against the primitives that it stands on, in turn, in one run and on one disk (the folder for temporary
// files): durable puts against durable writes of files, reads against reads of the same files.
import { randomFillSync } from 'node:crypto';
import fs from 'node:fs';
import { type FileHandle, mkdir, mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import type { ByteSource } from '../../src/platform/byte-source.ts';
import { ChunkBuffer } from '../../src/storage/chunk-encoder.ts';
import { layerSource } from '../../src/storage/layer-source.ts';
import { openStorage, type Storage } from '../../src/storage/open.ts';
import { allocatePageAligned } from '../../src/storage/page-aligned.ts';
import { chunkBytes } from '../../src/storage/sizes.ts';
import { compare } from './figures.ts';

const chunkCount = 128;
const atOnce = 4;

export async function benchStorage(): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'obraz-bench-'));
  try {
    await benchPuts(directory);
    await benchReads(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Runs `work` for 0 to count - 1, `atOnce` at a time. Answers seconds. */
async function inParallel(count: number, work: (index: number, slot: number) => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  let next = 0;
  await Promise.all(
    Array.from({ length: atOnce }, async (_, slot) => {
      while (next < count) await work(next++, slot);
    }),
  );
  return (performance.now() - startedAt) / 1000;
}

const megabytes = (count: number): number => (count * chunkBytes) / 1e6;

let counter = 0;

/** Makes a chunk that was never stored, at almost no cost. */
function renew(data: Uint8Array): void {
  counter += 1;
  new DataView(data.buffer, data.byteOffset).setUint32(0, counter, true);
}

async function benchPuts(directory: string): Promise<void> {
  const folder = path.join(directory, 'puts');
  const files = path.join(directory, 'files');
  const buffers = Array.from({ length: atOnce }, () => new ChunkBuffer());
  for (const { data } of buffers) randomFillSync(data);
  const writeFiles = async (flag: number, bytes: Uint8Array): Promise<number> => {
    await rm(files, { recursive: true, force: true });
    await mkdir(files);
    const seconds = await inParallel(chunkCount, async (index) => {
      const file = await open(path.join(files, String(index)), fs.constants.O_WRONLY | fs.constants.O_CREAT | flag, 0o600);
      await file.write(bytes, 0, bytes.length, 0);
      await file.datasync();
      await file.close();
    });
    return megabytes(chunkCount) / seconds;
  };
  const withStore = async (work: (storage: Storage) => Promise<number>): Promise<number> => {
    await rm(folder, { recursive: true, force: true });
    await using storage = await openStorage({ directory: folder });
    return megabytes(chunkCount) / (await work(storage));
  };
  const plain = randomFillSync(Buffer.alloc(chunkBytes));
  const aligned = allocatePageAligned(chunkBytes);
  aligned.set(plain);
  const storeAll = (storage: Storage, sources: readonly (ChunkBuffer | Uint8Array)[]): Promise<number> =>
    inParallel(chunkCount, (_, slot) => {
      const source = sources[slot]!;
      renew(source instanceof ChunkBuffer ? source.data : source);
      return storage.chunks.store(source);
    });
  await compare(`Durable writes of ${chunkCount} × 4 MiB, ${atOnce} at once`, 'MB/s', {
    'files, fdatasync each': () => writeFiles(0, plain),
    'files, O_DIRECT and fdatasync each': () => writeFiles(fs.constants.O_DIRECT ?? 0, aligned),
    'store: hash and put': () => withStore((storage) => storeAll(storage, buffers)),
    'store: hash and put, in two threads': async () => {
      await rm(folder, { recursive: true, force: true });
      return megabytes(chunkCount) / (await storeInThreads(folder));
    },
    'store: hash and put, memory not aligned': () =>
      withStore((storage) =>
        storeAll(
          storage,
          Array.from({ length: atOnce }, () => Buffer.from(plain)),
        ),
      ),
    'store: chunks that it holds already': () =>
      withStore(async (storage) => {
        await storage.chunks.store(buffers[0]!);
        const encoded = storage.chunks.encode(buffers[0]!)!;
        return inParallel(chunkCount, () => storage.chunks.put(encoded));
      }),
  });
}

/** Half of the chunks in each of two threads; answers seconds without the threads' start. */
async function storeInThreads(folder: string): Promise<number> {
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    (async () => {
      const { openStorage } = await import(workerData.open);
      const { ChunkBuffer } = await import(workerData.encoder);
      const storage = await openStorage({ directory: workerData.folder });
      const buffers = Array.from({ length: 2 }, () => new ChunkBuffer());
      for (const { data } of buffers) require('node:crypto').randomFillSync(data);
      parentPort.once('message', async () => {
        let left = workerData.count;
        await Promise.all(buffers.map(async (buffer) => {
          while (left-- > 0) { buffer.data[0] += 1; buffer.data[left % 65536] += 1; await storage.chunks.store(buffer); }
        }));
        parentPort.postMessage('done');
      });
      parentPort.postMessage('ready');
    })();`;
  const workerData = {
    folder,
    count: chunkCount / 2,
    open: new URL('../../src/storage/open.ts', import.meta.url).href,
    encoder: new URL('../../src/storage/chunk-encoder.ts', import.meta.url).href,
  };
  const workers = [0, 1].map(() => new Worker(source, { eval: true, workerData }));
  const heard = () =>
    Promise.all(workers.map((worker) => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))));
  await heard();
  const startedAt = performance.now();
  const done = heard();
  for (const worker of workers) worker.postMessage('go', []);
  await done;
  const seconds = (performance.now() - startedAt) / 1000;
  await Promise.all(workers.map((worker) => worker.terminate()));
  return seconds;
}

async function benchReads(directory: string): Promise<void> {
  const folder = path.join(directory, 'reads');
  await using storage = await openStorage({ directory: folder });
  const buffers = Array.from({ length: atOnce }, () => new ChunkBuffer());
  for (const { data } of buffers) randomFillSync(data);
  const builder = await storage.layers.build();
  await inParallel(chunkCount, async (index, slot) => {
    renew(buffers[slot]!.data);
    builder.set(index, await storage.chunks.store(buffers[slot]!));
  });
  const layer = await storage.layers.open(await builder.flush());
  const files = (await readdir(path.join(folder, 'chunks'), { recursive: true }))
    .filter((name) => name.length > 3)
    .map((name) => path.join(folder, 'chunks', name));
  const cold = dropCaches();
  const small = 400;
  const at = (index: number): number => ((index * 7919) % (chunkCount * 1024)) * 4096;

  const readSmall = async (concurrency: number): Promise<number> => {
    dropCaches();
    // Nothing is remembered: another opener each time.
    await using opened = await openStorage({ directory: folder });
    const source = layerSource(await opened.layers.open(layer.root), opened.chunks, chunkCount * chunkBytes);
    return small / (await times(small, concurrency, (index) => source.read(new Uint8Array(4096), at(index))));
  };
  const readFile = async (concurrency: number): Promise<number> => {
    dropCaches();
    const seconds = await times(small, concurrency, async (index) => {
      const file = await open(files[Math.floor(at(index) / chunkBytes)]!, 'r');
      await file.read(Buffer.allocUnsafe(4096), 0, 4096, 4096 + (at(index) % chunkBytes));
      await file.close();
    });
    return small / seconds;
  };
  for (const concurrency of [1, 8])
    await compare(`Random reads of 4 KiB, ${cold ? 'cold' : 'warm (not root)'}, ${concurrency} at once`, 'reads/s', {
      'open, read, close a file': () => readFile(concurrency),
      'layer: page, header, block, verified': () => readSmall(concurrency),
    });

  const sequential = async (source: ByteSource): Promise<number> => {
    const targets = Array.from({ length: atOnce }, () => new Uint8Array(chunkBytes));
    return (
      megabytes(chunkCount) / (await inParallel(chunkCount, (index, slot) => source.read(targets[slot]!, index * chunkBytes)))
    );
  };
  const sequentialFiles = async (): Promise<number> => {
    const targets = Array.from({ length: atOnce }, () => Buffer.allocUnsafe(chunkBytes));
    const seconds = await inParallel(chunkCount, async (index, slot) => {
      const file: FileHandle = await open(files[index]!, 'r');
      await file.read(targets[slot]!, 0, chunkBytes, 4096);
      await file.close();
    });
    return megabytes(chunkCount) / seconds;
  };
  const source = layerSource(layer, storage.chunks, chunkCount * chunkBytes);
  await compare(`Sequential reads of 4 MiB, warm, ${atOnce} at once, one thread`, 'MB/s', {
    files: sequentialFiles,
    'layer, verified': () => sequential(source),
  });
}

async function times(count: number, concurrency: number, work: (index: number) => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  let next = 0;
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (next < count) await work(next++);
    }),
  );
  return (performance.now() - startedAt) / 1000;
}

/** Empties the machine's page cache, where we may. */
function dropCaches(): boolean {
  try {
    fs.writeFileSync('/proc/sys/vm/drop_caches', '3');
    return true;
  } catch {
    return false;
  }
}
