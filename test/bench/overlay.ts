// Reading layers and writing overlays inside one process, without NBD: against reads and writes of a plain file on the same disk (the
// folder for temporary files), in turn, in one run. Files are in the system's cache.
import { randomFillSync } from 'node:crypto';
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { PageAddress } from '../../src/storage/address.ts';
import { ChunkBuffer } from '../../src/storage/chunk-encoder.ts';
import { type LayerView, openLayerView } from '../../src/storage/layer-view.ts';
import { openStorage, type Storage } from '../../src/storage/open.ts';
import { createGeneration } from '../../src/storage/overlay/generation.ts';
import { type WritableOverlay, openWritableOverlay } from '../../src/storage/overlay/writable-overlay.ts';
import { chunkBytes } from '../../src/storage/sizes.ts';
import { compare } from './figures.ts';

const MiB = 1024 * 1024;
const chunkCount = 128;
const sizeBytes = chunkCount * chunkBytes;
const megabytes = sizeBytes / 1e6;

export async function benchOverlay(): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'obraz-bench-'));
  try {
    await using storage = await openStorage({ directory: path.join(directory, 'store'), threads: 2 });
    const file = await open(path.join(directory, 'plain'), 'w+');
    const root = await fill(storage, file);
    await benchReads(directory, root, file);
    await benchWrites(directory, storage, root, file);
    await file.close();
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** The same bytes as a layer and as a file. */
async function fill(storage: Storage, file: FileHandle): Promise<PageAddress> {
  const chunk = new ChunkBuffer();
  randomFillSync(chunk.data);
  const builder = await storage.layers.build();
  for (let index = 0; index < chunkCount; index += 1) {
    for (let block = 0; block < 64; block += 1) chunk.data[block * 65536] = index;
    builder.set(index, await storage.chunks.store(chunk));
    await file.write(chunk.data, 0, chunkBytes, index * chunkBytes);
  }
  return builder.flush();
}

type Reader = Pick<LayerView, 'readNow' | 'read'>;

/** Reads all of it in order, as a server with requests in flight does. Answers MB/s. */
async function readAll(reader: Reader | FileHandle, requestBytes: number, atOnce: number): Promise<number> {
  const startedAt = performance.now();
  let next = 0;
  const read = async (): Promise<void> => {
    const target = Buffer.alloc(requestBytes + 48).subarray(48);
    while (next < sizeBytes) {
      const offset = next;
      next += requestBytes;
      if (!('readNow' in reader)) await reader.read(target, 0, requestBytes, offset);
      else if (!reader.readNow(target, offset)) await reader.read(target, offset);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, read));
  return (megabytes / (performance.now() - startedAt)) * 1000;
}

/** Reads 4 KiB at random places, 16 at once; answers reads a second. */
async function readRandomly(reader: Reader | FileHandle, count: number): Promise<number> {
  const startedAt = performance.now();
  let left = count;
  const read = async (): Promise<void> => {
    const target = Buffer.alloc(4096);
    while (left-- > 0) {
      const offset = ((left * 7919) % (sizeBytes / 4096)) * 4096;
      if (!('readNow' in reader)) await reader.read(target, 0, 4096, offset);
      else if (!reader.readNow(target, offset)) await reader.read(target, offset);
    }
  };
  await Promise.all(Array.from({ length: 16 }, read));
  return (count / (performance.now() - startedAt)) * 1000;
}

async function benchReads(directory: string, root: PageAddress, file: FileHandle): Promise<void> {
  const openWith = (cachedBlockBytes: number) =>
    openStorage({ directory: path.join(directory, 'store'), threads: 2, cachedBlockBytes });
  await using large = await openWith(2 * sizeBytes);
  await using small = await openWith(sizeBytes / 4);
  const view = (storage: Storage) => openLayerView(storage, root, sizeBytes);
  const warm = await view(large);
  await readAll(warm, MiB, 4);
  await readAll(await view(small), MiB, 4);
  for (const [requestBytes, atOnce] of [
    [MiB, 4],
    [256 * 1024, 16],
  ] as const)
    await compare(`Sequential reads of ${requestBytes / 1024} KiB, ${atOnce} at once`, 'MB/s', {
      file: () => readAll(file, requestBytes, atOnce),
      'view, all of it in memory': () => readAll(warm, requestBytes, atOnce),
      'view, a quarter of it fits in memory, read before': async () => readAll(await view(small), requestBytes, atOnce),
      'view, never read before': async () => {
        await using fresh = await openWith(sizeBytes / 4);
        return await readAll(await view(fresh), requestBytes, atOnce);
      },
    });
  await compare('Random reads of 4 KiB, 16 at once', 'reads/s', {
    file: () => readRandomly(file, 40_000),
    'view, all of it in memory': () => readRandomly(warm, 200_000),
    'view, a quarter of it fits in memory': async () => readRandomly(await view(small), 10_000),
  });
}

/** Writes all of it in order; answers MB/s. */
async function writeAll(
  write: (data: Buffer, offset: number) => Promise<unknown>,
  requestBytes: number,
  atOnce: number,
): Promise<number> {
  const data = randomFillSync(Buffer.alloc(requestBytes));
  const startedAt = performance.now();
  let next = 0;
  const writeOn = async (): Promise<void> => {
    while (next < sizeBytes) {
      const offset = next;
      next += requestBytes;
      await write(data, offset);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, writeOn));
  return (megabytes / (performance.now() - startedAt)) * 1000;
}

async function benchWrites(directory: string, storage: Storage, root: PageAddress, file: FileHandle): Promise<void> {
  let count = 0;
  const withOverlay = async (work: (overlay: WritableOverlay) => Promise<number>): Promise<number> => {
    count += 1;
    const log = path.join(directory, `log-${count}`);
    const base = await openLayerView(storage, root, sizeBytes);
    const generation = await createGeneration(log, { diskId: 'bench', generation: 1 }, sizeBytes);
    try {
      await using overlay = openWritableOverlay({ storage, base, sealed: [], open: generation, sizeBytes });
      return await work(overlay);
    } finally {
      await rm(log);
    }
  };
  const toNewFile = async (work: (target: FileHandle) => Promise<number>): Promise<number> => {
    const name = path.join(directory, 'written');
    const target = await open(name, 'w');
    try {
      return await work(target);
    } finally {
      await target.close();
      await rm(name);
    }
  };
  for (const [requestBytes, atOnce] of [
    [MiB, 4],
    [64 * 1024, 16],
  ] as const)
    await compare(`Sequential writes of ${requestBytes / 1024} KiB, ${atOnce} at once, not synced`, 'MB/s', {
      'new file': () =>
        toNewFile((target) => writeAll((data, offset) => target.write(data, 0, data.length, offset), requestBytes, atOnce)),
      overlay: () =>
        withOverlay((overlay) => writeAll((data, offset) => overlay.write(data, offset, false), requestBytes, atOnce)),
    });
  const small = Buffer.alloc(4096, 7);
  const writeRandomly = async (write: (offset: number) => Promise<unknown>): Promise<number> => {
    const startedAt = performance.now();
    const writes = 20_000;
    let left = writes;
    const writeOn = async (): Promise<void> => {
      while (left-- > 0) await write(((left * 7919) % (sizeBytes / 4096)) * 4096);
    };
    await Promise.all(Array.from({ length: 16 }, writeOn));
    return (writes / (performance.now() - startedAt)) * 1000;
  };
  await compare('Random writes of 4 KiB, 16 at once, not synced', 'writes/s', {
    file: () => writeRandomly((offset) => file.write(small, 0, 4096, offset)),
    overlay: () => withOverlay((overlay) => writeRandomly((offset) => overlay.write(small, offset, false))),
  });
  await withOverlay(async (overlay) => {
    await writeAll((data, offset) => overlay.write(data, offset, false), MiB, 4);
    await compare('Sequential reads of what was written, 1024 KiB, 4 at once', 'MB/s', {
      file: () => readAll(file, MiB, 4),
      overlay: () => readAll(overlay, MiB, 4),
    });
    await compare('Random reads of 4 KiB of what was written, 16 at once', 'reads/s', {
      file: () => readRandomly(file, 40_000),
      overlay: () => readRandomly(overlay, 40_000),
    });
    return 0;
  });
}
