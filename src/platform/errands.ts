// Work that nobody waits for, by name: what is under way is not begun a second time, and so many run at once.
import { Semaphore } from './semaphore.ts';

export class Errands {
  readonly #places: Semaphore;
  readonly #underWay = new Map<string, Promise<void>>();

  constructor(atOnce: number) {
    this.#places = new Semaphore(atOnce);
  }

  /** As soon as there is a place, unless one of that name is under way or waits. @param work must not reject. */
  begin(name: string, work: () => Promise<void>): void {
    if (!this.#underWay.has(name)) this.#underWay.set(name, this.#run(name, work));
  }

  async #run(name: string, work: () => Promise<void>): Promise<void> {
    const release = await this.#places.acquire();
    try {
      await work();
    } finally {
      release();
      this.#underWay.delete(name);
    }
  }

  /** Resolves when all that were begun before have ended. */
  async ended(): Promise<void> {
    await Promise.all(this.#underWay.values());
  }
}
