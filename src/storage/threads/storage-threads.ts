// Threads that read, verify, hash and store for a store in a local folder, so that the main thread only copies. Started when they are
// first needed; they do not keep the process alive while they have nothing to do.
import { Worker } from 'node:worker_threads';
import { TransientError } from '../../platform/errors.ts';
import { fromPosted, toPosted } from '../../platform/posted-error.ts';
import { Semaphore } from '../../platform/semaphore.ts';
import { type ChunkAddress, parseChunkAddress } from '../address.ts';
import { type Admission, admitAll } from '../admission.ts';
import type { OnCorrupt } from '../damage.ts';
import type { ChunkPatch, FoldFile } from '../overlay/fold-chunk.ts';
import type { BlockCache, BlockSlot } from '../reading/block-cache.ts';
import type { FromThread, ToThread } from './messages.ts';
import type { ThreadOptions } from './storage-thread.ts';

export interface StorageThreadsOptions extends ThreadOptions {
  /** At least 1. */
  threads: number;
  onCorrupt?: OnCorrupt | undefined;
}

/** Chunks of all folds together that are under way at once, 4 MiB of memory each: enough to keep a disk writing while others are hashed. */
export const mostFoldsAtOnce = 8;

/** A fold whose logs the threads can read. */
export interface ThreadedFold extends Disposable {
  /** As foldChunk. What is under way when it is aborted has ended when the promise settles. */
  fold(base: ChunkAddress | undefined, patch: ChunkPatch, signal: AbortSignal): Promise<ChunkAddress | undefined>;
}

interface Task {
  thread: Thread;
  resolve: (message: FromThread) => void;
  reject: (error: Error) => void;
}

interface Thread {
  worker: Worker;
  running: number;
  slabsKnown: number;
  foldsOpen: Set<number>;
}

export class StorageThreads implements AsyncDisposable {
  readonly #options: StorageThreadsOptions;
  readonly #blocks: BlockCache;
  readonly #threads: Thread[] = [];
  readonly #tasks = new Map<number, Task>();
  readonly #folds = new Map<number, { files: readonly FoldFile[]; admission: Admission }>();
  readonly #foldTurns = new Semaphore(mostFoldsAtOnce);
  #lastId = 0;
  #closed = false;

  /** @param blocks whose memory the threads fill. */
  constructor(options: StorageThreadsOptions, blocks: BlockCache) {
    this.#options = options;
    this.#blocks = blocks;
  }

  /** As ChunkStore.readBlocks, into slots that are pinned until it has settled. */
  async read(address: ChunkAddress, first: number, slots: readonly BlockSlot[], checks: Uint32Array): Promise<void> {
    const answer = await this.#run((thread, taskId) => {
      while (thread.slabsKnown < this.#blocks.slabs.length) {
        const memory = this.#blocks.slabs[thread.slabsKnown]!;
        post(thread, { kind: 'slab', slab: thread.slabsKnown, memory });
        thread.slabsKnown += 1;
      }
      const places = slots.flatMap(({ slab, offset }) => [slab, offset]);
      const known = Array.from(checks.subarray(first, first + slots.length));
      post(thread, { kind: 'read', taskId, address, first, slots: places, checks: known });
    });
    if (answer.kind === 'read') checks.set(answer.checks, first);
  }

  /** @param files the logs, by their place in patches. */
  openFold(files: readonly FoldFile[], admission: Admission = admitAll): ThreadedFold {
    const foldId = ++this.#lastId;
    this.#folds.set(foldId, { files, admission });
    return {
      fold: (base, patch, signal) => this.#fold(foldId, base, patch, signal),
      [Symbol.dispose]: () => {
        this.#folds.delete(foldId);
        for (const thread of this.#threads) if (thread.foldsOpen.delete(foldId)) post(thread, { kind: 'closeFold', foldId });
      },
    };
  }

  async #fold(
    foldId: number,
    base: ChunkAddress | undefined,
    patch: ChunkPatch,
    signal: AbortSignal,
  ): Promise<ChunkAddress | undefined> {
    const release = await this.#foldTurns.acquire(signal);
    let cancel: (() => void) | undefined;
    try {
      signal.throwIfAborted();
      const answer = await this.#run((thread, taskId) => {
        if (!thread.foldsOpen.has(foldId)) {
          thread.foldsOpen.add(foldId);
          post(thread, { kind: 'openFold', foldId, files: this.#folds.get(foldId)!.files });
        }
        post(thread, { kind: 'fold', taskId, foldId, base, patch });
        cancel = () => post(thread, { kind: 'cancel', taskId });
        signal.addEventListener('abort', cancel, { once: true });
      });
      return answer.kind === 'folded' && answer.address !== undefined ? parseChunkAddress(answer.address) : undefined;
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      if (cancel !== undefined) signal.removeEventListener('abort', cancel);
      release();
    }
  }

  #run(begin: (thread: Thread, taskId: number) => void): Promise<FromThread> {
    if (this.#closed) return Promise.reject(new TransientError('the store is closed'));
    const thread = this.#leastBusyThread();
    const taskId = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#tasks.set(taskId, { thread, resolve, reject });
      if (thread.running === 0) thread.worker.ref();
      thread.running += 1;
      begin(thread, taskId);
    });
  }

  #settle(taskId: number): Task | undefined {
    const task = this.#tasks.get(taskId);
    if (task === undefined) return undefined;
    this.#tasks.delete(taskId);
    task.thread.running -= 1;
    if (task.thread.running === 0) task.thread.worker.unref();
    return task;
  }

  #leastBusyThread(): Thread {
    if (this.#threads.length < this.#options.threads && this.#threads.every((thread) => thread.running > 0))
      this.#threads.push(this.#start());
    return this.#threads.reduce((least, thread) => (thread.running < least.running ? thread : least));
  }

  #start(): Thread {
    const workerData: ThreadOptions = { directory: this.#options.directory, packing: this.#options.packing };
    const worker = new Worker(new URL('./storage-thread.ts', import.meta.url), { workerData });
    worker.unref();
    const thread: Thread = { worker, running: 0, slabsKnown: 0, foldsOpen: new Set() };
    worker.on('message', (message: FromThread) => this.#hear(thread, message));
    // A thread that dies (out of memory, a bug) fails what it was doing; the next task starts another.
    const lost = (error: Error): void => {
      const index = this.#threads.indexOf(thread);
      if (index !== -1) this.#threads.splice(index, 1);
      for (const [taskId, task] of this.#tasks) if (task.thread === thread) this.#settle(taskId)?.reject(error);
    };
    worker.on('error', (cause) => lost(new TransientError('a storage thread ended', { cause })));
    worker.on('exit', () => lost(new TransientError('a storage thread ended')));
    return thread;
  }

  #hear(thread: Thread, message: FromThread): void {
    switch (message.kind) {
      case 'several':
        for (const one of message.messages) this.#hear(thread, one);
        return;
      case 'admit':
        void this.#admit(thread, message);
        return;
      case 'corrupt':
        this.#options.onCorrupt?.(message.finding);
        return;
      case 'failed':
        this.#settle(message.taskId)?.reject(fromPosted(message.error));
        return;
      case 'read':
      case 'folded':
        this.#settle(message.taskId)?.resolve(message);
    }
  }

  async #admit(thread: Thread, { askId, foldId, keys }: FromThread & { kind: 'admit' }): Promise<void> {
    try {
      const fold = this.#folds.get(foldId);
      if (fold === undefined) throw new TransientError('the fold was stopped');
      post(thread, { kind: 'admitted', askId, admitted: await fold.admission(keys) });
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
