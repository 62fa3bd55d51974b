// Threads that work for the main one: tasks go to the thread that has the least to do, in contexts (an import's source, a fold's logs) that
// each thread opens when it first works in them. What only the main thread can do, asking for admission, is asked back.
//
// Invariant: every task settles once. A thread that dies (out of memory, a bug) fails what it was doing with a TransientError, and the
// next task starts another in its place. Threads do not keep the process alive while they have nothing to do.
import { type ResourceLimits, Worker } from 'node:worker_threads';
import { TransientError } from '../../platform/errors.ts';
import { fromPosted, toPosted } from '../../platform/posted-error.ts';
import { type Admission, admitAll } from '../admission.ts';
import type { Dialogue, FromThread, ToThread } from './messages.ts';

export interface ThreadPoolOptions<D extends Dialogue> {
  /** What each thread runs: it calls serveTasks. */
  module: URL;
  /** Plain data, for the module. */
  workerData: unknown;
  /** Started when they are needed; at least 1. */
  threads: number;
  resourceLimits?: ResourceLimits;
  /** For messages: 'a storage thread'. */
  title: string;
  /** What all threads share: only ever appended to. A thread knows all of it before its next task. */
  memory?: () => readonly SharedArrayBuffer[];
  onNote?: (note: D['note']) => void;
  /** Hears of a thread that ended by itself. */
  onLost?: (reason: string) => void;
}

/** What tasks have in common. Closed in every thread when it is disposed of, which must wait for its tasks. */
export interface Context extends Disposable {
  readonly id: number;
}

interface Task<D extends Dialogue> {
  thread: Thread;
  /** Called once, when the thread's memory is free of it. */
  taken: () => void;
  resolve: (answer: D['answer']) => void;
  reject: (error: Error) => void;
}

interface Thread {
  worker: Worker;
  running: number;
  /** Tasks of those that hold its memory. */
  load: number;
  memoryKnown: number;
  contexts: Set<number>;
}

export class ThreadPool<D extends Dialogue> implements AsyncDisposable {
  readonly #options: ThreadPoolOptions<D>;
  readonly #threads: Thread[] = [];
  readonly #tasks = new Map<number, Task<D>>();
  readonly #contexts = new Map<number, { description: D['description']; admission: Admission }>();
  #lastId = 0;
  #closed = false;

  constructor(options: ThreadPoolOptions<D>) {
    this.#options = options;
  }

  /** Starts every thread now: loading its code takes a few hundred milliseconds, which the first task need not wait for. */
  warmUp(): void {
    while (this.#threads.length < this.#options.threads) this.#threads.push(this.#start());
  }

  /** @param admission is asked before every put that a task of the context makes. */
  open(description: D['description'], admission: Admission = admitAll): Context {
    const contextId = ++this.#lastId;
    this.#contexts.set(contextId, { description, admission });
    return {
      id: contextId,
      [Symbol.dispose]: () => {
        this.#contexts.delete(contextId);
        for (const thread of this.#threads)
          if (thread.contexts.delete(contextId)) this.#post(thread, { kind: 'close', contextId });
      },
    };
  }

  /**
   * After an abort the thread still answers; only then is the memory that it works in free, so the promise waits for that answer. Only a
   * task in a context can be aborted.
   * @param onTaken called at most once, when the task needs the thread's memory no more, before it is done; not of every task.
   * @throws what the task throws; TransientError when its thread ended or the pool is closed; signal.reason when that failed an aborted one.
   */
  run(work: D['work'], context?: Context, signal?: AbortSignal, onTaken?: () => void): Promise<D['answer']> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      if (this.#closed) throw new TransientError(`${this.#options.title} was asked for work while the service stops`);
      const opened = context && this.#contexts.get(context.id);
      if (context !== undefined && opened === undefined) throw new Error('a task was given in a context that is closed');
      const thread = this.#leastBusyThread();
      const taskId = ++this.#lastId;
      const cancel = () => this.#post(thread, { kind: 'cancel', taskId });
      const settled = () => signal?.removeEventListener('abort', cancel);
      let holdsMemory = true;
      const free = (): void => {
        if (holdsMemory) thread.load -= 1;
        holdsMemory = false;
      };
      this.#tasks.set(taskId, {
        thread,
        taken: () => (free(), onTaken?.()),
        resolve: (answer) => (settled(), free(), resolve(answer)),
        reject: (error) => (settled(), free(), reject(signal?.aborted ? (signal.reason as Error) : error)),
      });
      if (thread.running === 0) thread.worker.ref();
      thread.running += 1;
      thread.load += 1;
      this.#tellMemory(thread);
      if (context !== undefined && !thread.contexts.has(context.id)) {
        thread.contexts.add(context.id);
        this.#post(thread, { kind: 'open', contextId: context.id, description: opened!.description });
      }
      this.#post(thread, { kind: 'work', taskId, contextId: context?.id, work });
      signal?.addEventListener('abort', cancel, { once: true });
    });
  }

  #tellMemory(thread: Thread): void {
    const memory = this.#options.memory?.() ?? [];
    for (; thread.memoryKnown < memory.length; thread.memoryKnown += 1)
      this.#post(thread, { kind: 'memory', memory: memory[thread.memoryKnown]! });
  }

  #settle(taskId: number): Task<D> | undefined {
    const task = this.#tasks.get(taskId);
    if (task === undefined) return undefined;
    this.#tasks.delete(taskId);
    task.thread.running -= 1;
    if (task.thread.running === 0) task.thread.worker.unref();
    return task;
  }

  #leastBusyThread(): Thread {
    if (this.#threads.length < this.#options.threads && this.#threads.every((thread) => thread.load > 0))
      this.#threads.push(this.#start());
    return this.#threads.reduce((least, thread) => (thread.load < least.load ? thread : least));
  }

  #start(): Thread {
    const { module, workerData, resourceLimits, title, onLost } = this.#options;
    const worker = new Worker(module, { workerData, ...(resourceLimits === undefined ? {} : { resourceLimits }) });
    worker.unref();
    const thread: Thread = { worker, running: 0, load: 0, memoryKnown: 0, contexts: new Set() };
    worker.on('message', (message: FromThread<D>) => this.#hear(thread, message));
    const lost = (reason: string, cause?: Error): void => {
      const index = this.#threads.indexOf(thread);
      if (index === -1) return;
      this.#threads.splice(index, 1);
      if (!this.#closed) onLost?.(reason);
      const error = new TransientError(`${title} ended`, { cause });
      for (const [taskId, task] of this.#tasks) if (task.thread === thread) this.#settle(taskId)?.reject(error);
    };
    worker.on('error', (error: Error) => lost(error.stack ?? error.message, error));
    worker.on('exit', (code) => lost(`exit code ${code}`));
    return thread;
  }

  #hear(thread: Thread, message: FromThread<D>): void {
    switch (message.kind) {
      case 'several':
        for (const one of message.messages) this.#hear(thread, one);
        return;
      case 'admit':
        void this.#admit(thread, message);
        return;
      case 'note':
        this.#options.onNote?.(message.note);
        return;
      case 'taken':
        this.#tasks.get(message.taskId)?.taken();
        return;
      case 'failed':
        this.#settle(message.taskId)?.reject(fromPosted(message.error));
        return;
      case 'done':
        this.#settle(message.taskId)?.resolve(message.answer);
    }
  }

  async #admit(thread: Thread, { askId, contextId, keys }: FromThread<D> & { kind: 'admit' }): Promise<void> {
    try {
      const context = this.#contexts.get(contextId);
      if (context === undefined) throw new TransientError('what objects were put for was given up');
      this.#post(thread, { kind: 'admitted', askId, admitted: await context.admission(keys) });
    } catch (error) {
      this.#post(thread, { kind: 'refused', askId, error: toPosted(error) });
    }
  }

  #post(thread: Thread, message: ToThread<D>): void {
    thread.worker.postMessage(message);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#threads.map((thread) => thread.worker.terminate()));
  }
}
