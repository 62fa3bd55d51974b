// The threads that fetch, decode, hash and store chunks. The main thread only plans: guest bytes never pass through it.
// Bounded, whatever the number of imports: chunks that hold memory, and chunks whose bytes the system has, which wait to be durable.
import type { Log } from '../../platform/log.ts';
import { FairPlaces } from '../../platform/fair-places.ts';
import type { Admission } from '../../storage/admission.ts';
import { sharedOut, type ThreadBounds } from '../../storage/threads/chunk-memory.ts';
import { ThreadPool } from '../../storage/threads/thread-pool.ts';
import type { ChunkDialogue, StoredChunk, ThreadOptions } from './chunk-thread.ts';
import type { ChunkPlan } from './plan.ts';
import type { SourceDescription } from './source-description.ts';

/** Chunks lie outside of the heap, and what a thread makes besides is small and short-lived: V8's default would keep up to 48 MiB for it. */
const resourceLimits = { maxYoungGenerationSizeMb: 6 };

export interface ChunkPoolOptions extends Pick<ThreadOptions, 'storage'> {
  threads: number;
  log: Log;
}

/** Of all threads together. Why these: docs/decisions/001-import-threads.md. */
const allTogether: ThreadBounds = { chunksInMemory: 10, putsAtOnce: 24 };
/** A single thread fetches from no more at once, however few there are. */
const mostInMemory = 5;

/** A source that is open in the threads. */
export interface ChunkSource extends Disposable {
  /** Stores one chunk; waits for a free slot first. @throws what reading, decoding and storing throw; signal.reason when aborted. */
  store(plan: ChunkPlan, signal: AbortSignal): Promise<StoredChunk>;
  /** The same for the bytes of a chunk, in shared memory, which is the caller's again when the promise settles. */
  storeBytes(bytes: Uint8Array, signal: AbortSignal): Promise<StoredChunk>;
}

export class ChunkPool implements AsyncDisposable {
  /** Chunks that can be under way at once. */
  readonly slots: number;
  /** In the memory of the threads. A source that comes slowly keeps its places for long, and holds up no other. */
  readonly #places: FairPlaces;
  readonly #pool: ThreadPool<ChunkDialogue>;

  constructor({ threads, storage, log }: ChunkPoolOptions) {
    const { chunksInMemory, putsAtOnce } = sharedOut(allTogether, threads);
    const bounds: ThreadBounds = { chunksInMemory: Math.min(mostInMemory, chunksInMemory), putsAtOnce };
    this.slots = threads * (bounds.chunksInMemory + bounds.putsAtOnce);
    this.#places = new FairPlaces(threads * bounds.chunksInMemory);
    // Alone: what else a store has cannot go to a thread.
    const { directory, storeId } = storage;
    const workerData: ThreadOptions = { storage: { directory, storeId }, bounds };
    this.#pool = new ThreadPool({
      module: new URL('./chunk-thread.ts', import.meta.url),
      workerData,
      threads,
      resourceLimits,
      title: 'an import thread',
      // Its chunks fail; the job's next attempt goes on from its checkpoint.
      onLost: (reason) => log.error({ reason }, 'an import thread ended'),
    });
  }

  /** Starts every thread now, so that the first import need not wait for them. */
  warmUp(): void {
    this.#pool.warmUp();
  }

  /** `admission` is asked before every put of the source's chunks. */
  open(description: SourceDescription, admission?: Admission): ChunkSource {
    const context = this.#pool.open(description, admission);
    const places = this.#places.user();
    const store = async (work: ChunkDialogue['work'], signal: AbortSignal): Promise<StoredChunk> => {
      const release = await places.acquire(signal);
      try {
        return await this.#pool.run(work, context, signal, release);
      } finally {
        release();
      }
    };
    return {
      store: (plan, signal) => store({ kind: 'plan', plan }, signal),
      storeBytes: (bytes, signal) => store({ kind: 'bytes', bytes }, signal),
      [Symbol.dispose]: () => context[Symbol.dispose](),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool[Symbol.asyncDispose]();
  }
}
