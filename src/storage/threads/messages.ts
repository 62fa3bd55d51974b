// What a pool of threads and one of its threads say to each other. All of it is plain data.
import type { PostedError } from '../../platform/posted-error.ts';
import type { Admitted } from '../admission.ts';

/** What the messages of one pool carry. */
export interface Dialogue {
  /** What a context is opened from, in each thread that works in it. */
  description: unknown;
  work: unknown;
  answer: unknown;
  /** Told by a thread at any time; nobody waits for it. */
  note: unknown;
}

export type ToThread<D extends Dialogue> =
  /** Shared memory, appended to what the thread knows. */
  | { kind: 'memory'; memory: SharedArrayBuffer }
  | { kind: 'open'; contextId: number; description: D['description'] }
  | { kind: 'close'; contextId: number }
  | { kind: 'work'; taskId: number; contextId: number | undefined; work: D['work'] }
  | { kind: 'cancel'; taskId: number }
  /** The answers to 'admit'. */
  | { kind: 'admitted'; askId: number; admitted: readonly Admitted[] }
  | { kind: 'refused'; askId: number; error: PostedError };

export type FromThread<D extends Dialogue> =
  /** Answers of one moment together: waking the other thread costs as much as reading a block. */
  | { kind: 'several'; messages: readonly FromThread<D>[] }
  /** The task needs the thread's memory no more: it only waits for the disk. */
  | { kind: 'taken'; taskId: number }
  | { kind: 'done'; taskId: number; answer: D['answer'] }
  | { kind: 'failed'; taskId: number; error: PostedError }
  /** Before a put of these objects for the context: only the main thread has the database. */
  | { kind: 'admit'; askId: number; contextId: number; keys: readonly string[] }
  | { kind: 'note'; note: D['note'] };
