// One of the threads of storage-threads.ts. It opens the store for itself; guest bytes go to and from shared memory and files only.
import fs from 'node:fs';
import { workerData } from 'node:worker_threads';
import { parseChunkAddress } from '../address.ts';
import type { Packing } from '../chunk-encoder.ts';
import { ChunkCorruptError, type CorruptFinding } from '../damage.ts';
import { closeFile, openFile } from '../drivers/local/file-calls.ts';
import { openLocalBlobStore } from '../drivers/local.ts';
import { onDemand } from '../../platform/on-demand.ts';
import { openStorageOn, type Storage } from '../open.ts';
import { type ChunkPatch, type FoldFile, type FoldLog, foldChunk } from '../overlay/fold-chunk.ts';
import { blockBytes, blocksPerChunk } from '../sizes.ts';
import { ChunkMemory, type ThreadBounds } from './chunk-memory.ts';
import { serveTasks } from './serve-tasks.ts';

/** Plain data: it goes to threads. */
export interface ThreadOptions {
  /** The folder of the local driver. */
  directory: string;
  /** The store that lies there: another one is refused, and none is made. */
  storeId: string;
  packing?: Packing | undefined;
  bounds: ThreadBounds;
}

export interface StorageDialogue {
  /** Of a fold: the logs that chunks are folded from, by their place in patches. */
  description: readonly FoldFile[];
  work:
    /** `slots`: piece of memory and offset in it of each block, one after another. `checks`: as ChunkStore.readBlocks, of these blocks. */
    | { kind: 'read'; address: string; first: number; slots: readonly number[]; checks: readonly number[] }
    /** As ChunkStore.verify. */
    | { kind: 'verify'; address: string; required: boolean }
    | { kind: 'fold'; base: string | undefined; patch: ChunkPatch };
  answer:
    | { kind: 'read'; checks: readonly number[] }
    /** What is wrong with it, where something is. */
    | { kind: 'verified'; sizeBytes: number | undefined; damage: string | undefined }
    | { kind: 'folded'; address: string | undefined };
  note: CorruptFinding;
}

interface OpenFold {
  storage: Storage;
  logs: FoldLog[];
}

/** Blocks that were read and are not told of yet. */
const mostBlocksHeld = 4;

const { directory, storeId, packing, bounds } = workerData as ThreadOptions;
const blobs = onDemand(() => openLocalBlobStore({ directory, create: false, putConcurrency: bounds.putsAtOnce }));
const reading = onDemand(async () => openStorageOn(await blobs(), { storeId, onCorrupt, blockingReads: true }));
const foldedChunks = new ChunkMemory(bounds.chunksInMemory);
let openFolds = 0;

const { memory, note } = serveTasks<StorageDialogue, OpenFold>({
  async open(files, admission) {
    const storage = await openStorageOn(await blobs(), { storeId, admission, onCorrupt, packing, warm: true });
    const logs: FoldLog[] = [];
    try {
      for (const { file, title } of files)
        logs.push({ title, descriptor: await openFile(file, fs.constants.O_RDONLY, 0), blocking: true });
    } catch (error) {
      await closeLogs(logs);
      throw error;
    }
    openFolds += 1;
    return { storage, logs };
  },
  // The blob store is the thread's: it stays.
  async close({ logs }) {
    openFolds -= 1;
    if (openFolds === 0) foldedChunks.clear();
    await closeLogs(logs);
  },
  run(work, opened, signal, taken) {
    switch (work.kind) {
      case 'read':
        return read(work);
      case 'verify':
        return verify(work);
      case 'fold':
        return fold(work, opened!, signal!, taken);
    }
  },
  heldShare: (work) => (work.kind === 'read' ? work.checks.length / mostBlocksHeld : 1),
});

/** They were only read: that one cannot be closed in order changes nothing. */
async function closeLogs(logs: readonly FoldLog[]): Promise<void> {
  for (const { descriptor } of logs) await closeFile(descriptor).catch(() => undefined);
}

function onCorrupt(finding: CorruptFinding): void {
  note(finding);
}

type Work<Kind> = StorageDialogue['work'] & { kind: Kind };

async function read({ address, first, slots, checks }: Work<'read'>): Promise<StorageDialogue['answer']> {
  const { chunks } = await reading();
  const targets: Buffer[] = [];
  for (let at = 0; at < slots.length; at += 2) targets.push(Buffer.from(memory[slots[at]!]!, slots[at + 1], blockBytes));
  // readBlocks speaks of all blocks of a chunk, the message of these.
  const all = new Float64Array(blocksPerChunk);
  all.set(checks, first);
  await chunks.readBlocks(parseChunkAddress(address), first, targets, all);
  return { kind: 'read', checks: Array.from(all.subarray(first, first + targets.length)) };
}

async function verify({ address, required }: Work<'verify'>): Promise<StorageDialogue['answer']> {
  const { chunks } = await reading();
  try {
    const sizeBytes = await chunks.verify(parseChunkAddress(address), undefined, required);
    return { kind: 'verified', sizeBytes, damage: undefined };
  } catch (error) {
    if (!(error instanceof ChunkCorruptError)) throw error;
    return { kind: 'verified', sizeBytes: undefined, damage: error.finding.reason };
  }
}

async function fold(
  { base, patch }: Work<'fold'>,
  { storage, logs }: OpenFold,
  signal: AbortSignal,
  taken: () => void,
): Promise<StorageDialogue['answer']> {
  using chunk = await foldedChunks.take(signal);
  const address = base === undefined ? undefined : parseChunkAddress(base);
  const onTaken = (): void => {
    chunk.free();
    taken();
  };
  return { kind: 'folded', address: await foldChunk(storage.chunks, chunk.buffer, address, patch, logs, { signal, onTaken }) };
}
