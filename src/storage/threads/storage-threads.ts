// Threads that read, verify, hash and store for a store in a local folder, so that the main thread only copies.
import { type ChunkAddress, parseChunkAddress } from '../address.ts';
import { Semaphore } from '../../platform/semaphore.ts';
import type { Admission } from '../admission.ts';
import { ChunkCorruptError, type OnCorrupt } from '../damage.ts';
import type { ChunkPatch, FoldFile } from '../overlay/fold-chunk.ts';
import type { BlockCache, BlockSlot } from '../reading/block-cache.ts';
import type { StorageDialogue, ThreadOptions } from './storage-thread.ts';
import { sharedOut, type ThreadBounds } from './chunk-memory.ts';
import { ThreadPool } from './thread-pool.ts';

export interface StorageThreadsOptions extends Omit<ThreadOptions, 'bounds'> {
  /** At least 1. */
  threads: number;
  onCorrupt?: OnCorrupt | undefined;
}

/** Of all threads together, for folds: enough chunks to keep a disk writing while others are hashed. */
const allTogether: ThreadBounds = { chunksInMemory: 8, putsAtOnce: 16 };

/** Chunks of all folds together that are under way at once. */
export const mostFoldsAtOnce = allTogether.chunksInMemory + allTogether.putsAtOnce;

/** A fold whose logs the threads can read. */
export interface ThreadedFold extends Disposable {
  /** As foldChunk. What is under way when it is aborted has ended when the promise settles. */
  fold(base: ChunkAddress | undefined, patch: ChunkPatch, signal: AbortSignal): Promise<ChunkAddress | undefined>;
}

export class StorageThreads implements AsyncDisposable {
  readonly #pool: ThreadPool<StorageDialogue>;
  /** Places in the memory of the threads: all folds wait for them in one line. */
  readonly #foldPlaces = new Semaphore(allTogether.chunksInMemory);

  /** @param blocks whose memory the threads fill. */
  constructor({ directory, storeId, packing, threads, onCorrupt }: StorageThreadsOptions, blocks: BlockCache) {
    const workerData: ThreadOptions = { directory, storeId, packing, bounds: sharedOut(allTogether, threads) };
    this.#pool = new ThreadPool({
      module: new URL('./storage-thread.ts', import.meta.url),
      workerData,
      threads,
      title: 'a storage thread',
      memory: () => blocks.slabs,
      onNote: (finding) => onCorrupt?.(finding),
    });
  }

  /** As ChunkStore.readBlocks, into slots that are pinned until it has settled. */
  async read(address: ChunkAddress, first: number, slots: readonly BlockSlot[], checks: Float64Array): Promise<void> {
    const places = slots.flatMap(({ slab, offset }) => [slab, offset]);
    const known = Array.from(checks.subarray(first, first + slots.length));
    const answer = await this.#pool.run({ kind: 'read', address, first, slots: places, checks: known });
    if (answer.kind === 'read') checks.set(answer.checks, first);
  }

  /** As ChunkStore.verify. @throws ChunkCorruptError, TransientError */
  async verify(address: ChunkAddress, required: boolean): Promise<number | undefined> {
    const answer = await this.#pool.run({ kind: 'verify', address, required });
    if (answer.kind !== 'verified') throw new Error(`a storage thread answered ${answer.kind}`);
    if (answer.damage !== undefined) throw new ChunkCorruptError(address, answer.damage);
    return answer.sizeBytes;
  }

  /** @param files the logs, by their place in patches. */
  openFold(files: readonly FoldFile[], admission?: Admission): ThreadedFold {
    const context = this.#pool.open(files, admission);
    return {
      fold: async (base, patch, signal) => {
        const release = await this.#foldPlaces.acquire(signal);
        try {
          const answer = await this.#pool.run({ kind: 'fold', base, patch }, context, signal, release);
          return answer.kind === 'folded' && answer.address !== undefined ? parseChunkAddress(answer.address) : undefined;
        } finally {
          release();
        }
      },
      [Symbol.dispose]: () => context[Symbol.dispose](),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool[Symbol.asyncDispose]();
  }
}
