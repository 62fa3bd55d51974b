// The threads that fetch, decode, hash and store chunks. The main thread only plans: guest bytes never pass through it.
// Bounded: `threads × slotsPerThread` chunks are under way at once, each with one chunk's buffers, whatever the number of imports.
import { Worker } from 'node:worker_threads';
import { TransientError } from '../../platform/errors.ts';
import type { Log } from '../../platform/log.ts';
import { fromPosted, toPosted } from '../../platform/posted-error.ts';
import { Semaphore } from '../../platform/semaphore.ts';
import { type Admission, admitAll } from '../../storage/admission.ts';
import type { FromThread, ToThread } from './messages.ts';
import type { ChunkPlan } from './plan.ts';
import type { SourceDescription } from './source-description.ts';
import type { ThreadOptions } from './chunk-thread.ts';

export interface StoredChunk {
  /** Undefined when the chunk holds only zeros. */
  address: string | undefined;
  /** Bytes that were read from the source for it. */
  bytesFetched: number;
}

interface Task {
  thread: Thread;
  resolve: (stored: StoredChunk) => void;
  reject: (error: Error) => void;
}

interface Thread {
  worker: Worker;
  running: number;
  openSources: Set<number>;
}

/** Chunks lie outside of the heap, and what a thread makes besides is small and short-lived: V8's default would keep up to 48 MiB for it. */
const resourceLimits = { maxYoungGenerationSizeMb: 6 };

export interface ChunkPoolOptions extends ThreadOptions {
  threads: number;
  log: Log;
}

/** A source that is open in the threads. */
export interface ChunkSource extends Disposable {
  /** Stores one chunk; waits for a free slot first. @throws what reading, decoding and storing throw; signal.reason when aborted. */
  store(plan: ChunkPlan, signal: AbortSignal): Promise<StoredChunk>;
  /** The same for the bytes of a chunk, in shared memory, which is the caller's again when the promise settles. */
  storeBytes(bytes: Uint8Array, signal: AbortSignal): Promise<StoredChunk>;
}

type Order = { kind: 'store'; plan: ChunkPlan } | { kind: 'storeBytes'; bytes: Uint8Array };

export class ChunkPool implements AsyncDisposable {
  readonly #options: ChunkPoolOptions;
  readonly #slots: Semaphore;
  readonly #threads: Thread[] = [];
  readonly #tasks = new Map<number, Task>();
  readonly #sources = new Map<number, { description: SourceDescription; admission: Admission }>();
  #lastId = 0;
  #closed = false;

  constructor(options: ChunkPoolOptions) {
    this.#options = options;
    this.#slots = new Semaphore(options.threads * options.slotsPerThread);
  }

  /** Chunks that can be under way at once. */
  get slots(): number {
    return this.#options.threads * this.#options.slotsPerThread;
  }

  /** Starts every thread now: loading its code takes a thread a few hundred milliseconds, which the first import need not wait for. */
  warmUp(): void {
    while (this.#threads.length < this.#options.threads) this.#threads.push(this.#start());
  }

  /** `admission` is asked before every put of the source's chunks. */
  open(description: SourceDescription, admission: Admission = admitAll): ChunkSource {
    const sourceId = ++this.#lastId;
    this.#sources.set(sourceId, { description, admission });
    return {
      store: (plan, signal) => this.#store(sourceId, { kind: 'store', plan }, signal),
      storeBytes: (bytes, signal) => this.#store(sourceId, { kind: 'storeBytes', bytes }, signal),
      [Symbol.dispose]: () => {
        this.#sources.delete(sourceId);
        for (const thread of this.#threads) if (thread.openSources.delete(sourceId)) post(thread, { kind: 'close', sourceId });
      },
    };
  }

  async #store(sourceId: number, order: Order, signal: AbortSignal): Promise<StoredChunk> {
    const release = await this.#slots.acquire(signal);
    try {
      return await this.#run(sourceId, order, signal);
    } finally {
      release();
    }
  }

  #run(sourceId: number, order: Order, signal: AbortSignal): Promise<StoredChunk> {
    const source = this.#sources.get(sourceId);
    if (this.#closed) throw new TransientError('the import was stopped');
    if (source === undefined) throw new Error('a chunk was asked of a source that is closed');
    const thread = this.#leastBusyThread();
    const taskId = ++this.#lastId;
    return new Promise<StoredChunk>((resolve, reject) => {
      // After a cancel the thread still answers; only then is its buffer free, so the promise waits for that answer.
      const cancel = () => post(thread, { kind: 'cancel', taskId });
      const settle = () => {
        thread.running -= 1;
        this.#tasks.delete(taskId);
        signal.removeEventListener('abort', cancel);
      };
      this.#tasks.set(taskId, {
        thread,
        resolve: (stored) => (settle(), resolve(stored)),
        reject: (error) => (settle(), reject(signal.aborted ? (signal.reason as Error) : error)),
      });
      thread.running += 1;
      if (!thread.openSources.has(sourceId)) {
        thread.openSources.add(sourceId);
        post(thread, { kind: 'open', sourceId, source: source.description });
      }
      post(thread, { ...order, taskId, sourceId });
      signal.addEventListener('abort', cancel, { once: true });
    });
  }

  #leastBusyThread(): Thread {
    if (this.#threads.length < this.#options.threads && this.#threads.every((thread) => thread.running > 0))
      this.#threads.push(this.#start());
    return this.#threads.reduce((least, thread) => (thread.running < least.running ? thread : least));
  }

  #start(): Thread {
    const { threads: _, log, ...workerData } = this.#options;
    const worker = new Worker(new URL('./chunk-thread.ts', import.meta.url), { workerData, resourceLimits });
    const thread: Thread = { worker, running: 0, openSources: new Set() };
    worker.on('message', (message: FromThread) => {
      if (message.kind === 'admit') {
        void this.#admit(thread, message);
        return;
      }
      const task = this.#tasks.get(message.taskId);
      if (message.kind === 'stored') task?.resolve({ address: message.address, bytesFetched: message.bytesFetched });
      else task?.reject(fromPosted(message.error));
    });
    // A thread that dies (out of memory, a bug) takes its chunks with it; the job's next attempt goes on from its checkpoint.
    const lost = (reason: string) => {
      const index = this.#threads.indexOf(thread);
      if (index === -1) return;
      this.#threads.splice(index, 1);
      if (!this.#closed) log.error({ reason }, 'an import thread ended');
      for (const task of this.#tasks.values())
        if (task.thread === thread) task.reject(new TransientError('an import thread ended'));
    };
    worker.on('error', (error: Error) => lost(error.stack ?? error.message));
    worker.on('exit', (code) => lost(`exit code ${code}`));
    return thread;
  }

  async #admit(thread: Thread, { askId, sourceId, keys }: FromThread & { kind: 'admit' }): Promise<void> {
    try {
      const source = this.#sources.get(sourceId);
      if (source === undefined) throw new TransientError('the import was stopped');
      post(thread, { kind: 'admitted', askId, admitted: await source.admission(keys) });
    } catch (error) {
      post(thread, { kind: 'refused', askId, error: toPosted(error) });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#threads.map((thread) => thread.worker.terminate()));
  }
}

const post = (thread: Thread, message: ToThread): void => thread.worker.postMessage(message);
