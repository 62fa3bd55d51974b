// Work that takes turns by name: what has one name runs one after another, in the order in which it asked.
import { Semaphore } from './semaphore.ts';

export class Turns {
  readonly #queues = new Map<string, { semaphore: Semaphore; users: number }>();

  /** Waits until everybody who asked before has disposed of his turn. @throws signal.reason when aborted while waiting. */
  async take(name: string, signal?: AbortSignal): Promise<Disposable> {
    const queue = this.#queues.get(name) ?? { semaphore: new Semaphore(1), users: 0 };
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
