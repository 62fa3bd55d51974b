// Whether a small write may be made in the thread that asks for it. Handing it to another thread and hearing of its end takes several times
// as long as copying 4 KiB into the system's cache; but when too much in there waits for the disk, the system holds writers back, and nobody
// else runs meanwhile. So what took long is not tried again for a while, longer each time. Times are milliseconds.

/** A write that took longer was held back. */
const slowMs = 3;
const firstPauseMs = 1_000;
const lastPauseMs = 60_000;

export class QuickWrites {
  readonly #now: () => number;
  #pauseMs = firstPauseMs;
  #pausedUntilMs = 0;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  get areAllowed(): boolean {
    return this.#now() >= this.#pausedUntilMs;
  }

  /** Makes one, which is allowed. */
  run<T>(write: () => T): T {
    const startedAtMs = this.#now();
    try {
      return write();
    } finally {
      const endedAtMs = this.#now();
      if (endedAtMs - startedAtMs > slowMs) {
        // Long after the last one it begins anew.
        if (startedAtMs - this.#pausedUntilMs > lastPauseMs) this.#pauseMs = firstPauseMs;
        this.#pausedUntilMs = endedAtMs + this.#pauseMs;
        this.#pauseMs = Math.min(this.#pauseMs * 2, lastPauseMs);
      }
    }
  }
}
