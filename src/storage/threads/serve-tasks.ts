// A thread's side of a pool (thread-pool.ts): opens contexts, runs tasks, asks for admission.
import { parentPort } from 'node:worker_threads';
import { fromPosted, toPosted } from '../../platform/posted-error.ts';
import type { Admission, Admitted } from '../admission.ts';
import { untilAborted } from '../../platform/until-aborted.ts';
import type { Dialogue, FromThread, ToThread } from './messages.ts';

export interface Tasks<D extends Dialogue, Opened> {
  /** Once for each context that the thread works in; `admission` is asked before every put for it. */
  open(description: D['description'], admission: Admission): Promise<Opened>;
  /** When no task of the context is under way. */
  close(opened: Opened): Promise<void>;
  /**
   * `opened` and `signal` of tasks in a context; undefined of others. `taken` may be called, once, when the task needs the thread's memory no
   * more and only waits for the disk: others are given to the thread then.
   */
  run(work: D['work'], opened: Opened | undefined, signal: AbortSignal | undefined, taken: () => void): Promise<D['answer']>;
  /** Of an answer that may wait for others of the same turn: how many such are held, as a share: 0.25 for four. Default 1: at once. */
  heldShare?(work: D['work']): number;
}

export interface Served<D extends Dialogue> {
  /** What all threads share. */
  readonly memory: readonly SharedArrayBuffer[];
  note(note: D['note']): void;
}

/** Called once, by the module that a pool's threads run. */
export function serveTasks<D extends Dialogue, Opened>(tasks: Tasks<D, Opened>): Served<D> {
  const port = parentPort!;
  const memory: SharedArrayBuffer[] = [];
  const contexts = new Map<number, Promise<Opened>>();
  const underWay = new Map<number, AbortController>();
  const asks = new Map<number, PromiseWithResolvers<readonly Admitted[]>>();
  let lastAskId = 0;
  const post = (message: FromThread<D>): void => port.postMessage(message);

  let held: FromThread<D>[] = [];
  let heldShare = 0;
  const postHeld = (): void => {
    if (held.length > 0) post({ kind: 'several', messages: held });
    held = [];
    heldShare = 0;
  };
  const postSoon = (message: FromThread<D>, share: number): void => {
    held.push(message);
    heldShare += share;
    if (heldShare >= 1) postHeld();
    else if (held.length === 1) setImmediate(postHeld);
  };

  const admissionOf =
    (contextId: number): Admission =>
    (keys, signal) => {
      const askId = ++lastAskId;
      const ask = Promise.withResolvers<readonly Admitted[]>();
      asks.set(askId, ask);
      post({ kind: 'admit', askId, contextId, keys });
      return untilAborted(ask.promise, signal);
    };

  const open = (contextId: number, description: D['description']): void => {
    const opened = tasks.open(description, admissionOf(contextId));
    // Each task of the context meets it.
    opened.catch(() => undefined);
    contexts.set(contextId, opened);
  };

  const close = async (contextId: number): Promise<void> => {
    const opened = await contexts.get(contextId)?.catch(() => undefined);
    contexts.delete(contextId);
    if (opened !== undefined) await tasks.close(opened);
  };

  const run = async ({ taskId, contextId, work }: ToThread<D> & { kind: 'work' }): Promise<void> => {
    const taken = (): void => post({ kind: 'taken', taskId });
    try {
      let answer: D['answer'];
      if (contextId === undefined) answer = await tasks.run(work, undefined, undefined, taken);
      else {
        const controller = new AbortController();
        underWay.set(taskId, controller);
        answer = await tasks.run(work, await contexts.get(contextId), controller.signal, taken);
      }
      const share = tasks.heldShare?.(work) ?? 1;
      if (share < 1) postSoon({ kind: 'done', taskId, answer }, share);
      else post({ kind: 'done', taskId, answer });
    } catch (error) {
      post({ kind: 'failed', taskId, error: toPosted(error) });
    } finally {
      underWay.delete(taskId);
    }
  };

  port.on('message', (message: ToThread<D>) => {
    switch (message.kind) {
      case 'memory':
        memory.push(message.memory);
        break;
      case 'open':
        open(message.contextId, message.description);
        break;
      case 'close':
        // What cannot be closed in order must not end the thread, and with it the tasks of others.
        close(message.contextId).catch(() => undefined);
        break;
      case 'work':
        void run(message);
        break;
      case 'cancel':
        underWay.get(message.taskId)?.abort(new Error('cancelled'));
        break;
      case 'admitted':
        asks.get(message.askId)?.resolve(message.admitted);
        asks.delete(message.askId);
        break;
      case 'refused':
        asks.get(message.askId)?.reject(fromPosted(message.error));
        asks.delete(message.askId);
        break;
    }
  });
  return { memory, note: (note) => post({ kind: 'note', note }) };
}
