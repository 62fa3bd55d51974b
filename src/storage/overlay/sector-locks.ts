// Which sectors are being read, patched and written back. Rare: guests write whole sectors.
import { sectorBytes } from './log-format.ts';

interface Lock {
  first: number;
  last: number;
  released: PromiseWithResolvers<void>;
}

export class SectorLocks {
  readonly #locks: Lock[] = [];

  isLocked(offset: number, length: number): boolean {
    return this.#locks.length > 0 && this.#blocking(offset, length) !== undefined;
  }

  /** Waits until no sector of the range is locked, and locks them; the answer unlocks. */
  async lock(offset: number, length: number): Promise<() => void> {
    for (let blocking = this.#blocking(offset, length); blocking !== undefined; blocking = this.#blocking(offset, length))
      await blocking.released.promise;
    const lock = { ...sectorsOf(offset, length), released: Promise.withResolvers<void>() };
    this.#locks.push(lock);
    return () => {
      this.#locks.splice(this.#locks.indexOf(lock), 1);
      lock.released.resolve();
    };
  }

  #blocking(offset: number, length: number): Lock | undefined {
    const { first, last } = sectorsOf(offset, length);
    return this.#locks.find((lock) => lock.first <= last && first <= lock.last);
  }
}

const sectorsOf = (offset: number, length: number): { first: number; last: number } => ({
  first: Math.floor(offset / sectorBytes),
  last: Math.floor((offset + length - 1) / sectorBytes),
});
