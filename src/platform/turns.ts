// Work that takes turns by name: of what has one name so many run at once, by default one, in the order in which they asked.
import { Semaphore } from './semaphore.ts';

export class Turns {
  readonly #queues = new Map<string, { semaphore: Semaphore; users: number }>();
  readonly #atOnce: number;

  constructor(atOnce = 1) {
    this.#atOnce = atOnce;
  }

  /** Waits until of those who asked before all but so many have disposed of their turns. @throws signal.reason when aborted while waiting. */
  async take(name: string, signal?: AbortSignal): Promise<Disposable> {
    const queue = this.#queues.get(name) ?? { semaphore: new Semaphore(this.#atOnce), users: 0 };
    this.#queues.set(name, queue);
    queue.users += 1;
    const leave = (): void => {
      queue.users -= 1;
      if (queue.users === 0) this.#queues.delete(name);
    };
    try {
      const release = await queue.semaphore.acquire(signal);
      let isOver = false;
      return {
        [Symbol.dispose]() {
          if (isOver) return;
          isOver = true;
          release();
          leave();
        },
      };
    } catch (error) {
      leave();
      throw error;
    }
  }
}
