// Runs tasks one step at a time in an order that a seed decides. A task gives its turn away at every `step`, which stands for all that
// takes time: a query, a write, a message. A task that is killed never gets another turn.
import { setImmediate as idle } from 'node:timers/promises';

export interface Task {
  readonly name: string;
  killed: boolean;
  /** Waits for the next turn. */
  step(): Promise<void>;
}

export class Schedule {
  readonly random: () => number;
  readonly #waiting: { task: Task; go: () => void }[] = [];
  #running = 0;
  #failure: { error: unknown } | undefined;

  constructor(random: () => number) {
    this.random = random;
  }

  /** A whole number in [0, bound). */
  pick(bound: number): number {
    return Math.floor(this.random() * bound);
  }

  start(name: string, work: (task: Task) => Promise<void>): Task {
    const task: Task = {
      name,
      killed: false,
      step: () => new Promise((go) => void this.#waiting.push({ task, go })),
    };
    this.#running += 1;
    work(task)
      .catch((error: unknown) => {
        if (!task.killed) this.#failure ??= { error };
      })
      .finally(() => {
        if (!task.killed) this.#running -= 1;
      });
    return task;
  }

  kill(task: Task): void {
    if (task.killed) return;
    task.killed = true;
    this.#running -= 1;
  }

  /** Runs until every task has ended or was killed. @throws the first error of a task. */
  async run(mostSteps: number): Promise<void> {
    for (let count = 0; this.#running > 0; count += 1) {
      if (count > mostSteps)
        throw new Error(`not done after ${mostSteps} steps: ${this.#waiting.map(({ task }) => task.name).join()}`);
      // All that can go on without a turn has gone on.
      await idle();
      if (this.#failure !== undefined) throw this.#failure.error;
      if (this.#running === 0) return;
      for (let at = this.#waiting.length - 1; at >= 0; at -= 1) if (this.#waiting[at]!.task.killed) this.#waiting.splice(at, 1);
      if (this.#waiting.length === 0) throw new Error('every task waits for something that never comes');
      this.#waiting.splice(this.pick(this.#waiting.length), 1)[0]!.go();
    }
  }
}
