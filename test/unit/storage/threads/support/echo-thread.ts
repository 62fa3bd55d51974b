// What the threads of thread-pool.spec.ts run: tasks that answer, wait, ask for admission, die.
import { setTimeout as delay } from 'node:timers/promises';
import { threadId } from 'node:worker_threads';
import type { Admission } from '../../../../../src/storage/admission.ts';
import { type Served, serveTasks } from '../../../../../src/storage/threads/serve-tasks.ts';

export interface EchoDialogue {
  description: { name: string };
  work:
    | { kind: 'echo'; text: string }
    /** Answers nothing until it is cancelled; then it fails after this time. `taken`: it says at once that it needs no memory. */
    | { kind: 'wait'; failAfterMs: number; taken?: boolean }
    | { kind: 'thread' }
    | { kind: 'admit'; keys: string[] }
    | { kind: 'fail'; text: string }
    | { kind: 'read'; piece: number }
    | { kind: 'die'; how: 'throw' | 'exit' };
  answer: string;
  note: string;
}

interface Opened {
  name: string;
  admission: Admission;
}

const { memory, note }: Served<EchoDialogue> = serveTasks<EchoDialogue, Opened>({
  async open({ name }, admission) {
    if (name === 'unreadable') throw new Error('it cannot be opened');
    note(`open ${name}`);
    return { name, admission };
  },
  async close({ name }) {
    note(`close ${name}`);
  },
  async run(work, opened, signal, taken): Promise<string> {
    switch (work.kind) {
      case 'echo':
        return `${opened?.name ?? 'nowhere'}: ${work.text}`;
      case 'wait':
        note('waiting');
        if (work.taken === true) taken();
        await new Promise((resolve) => signal!.addEventListener('abort', resolve));
        await delay(work.failAfterMs);
        note('gave up');
        throw new Error('cancelled in the thread');
      case 'thread':
        return String(threadId);
      case 'admit':
        return (await opened!.admission(work.keys, signal)).join(' ');
      case 'fail':
        throw new RangeError(work.text);
      case 'read':
        return String(new Uint8Array(memory[work.piece]!)[0]);
      case 'die':
        if (work.how === 'exit') process.exit(3);
        queueMicrotask(() => {
          throw new Error('a bug');
        });
        return new Promise(() => {});
    }
  },
  heldShare: (work) => (work.kind === 'echo' && work.text.startsWith('small') ? 0.25 : 1),
});
