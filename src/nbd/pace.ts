// Whether a connection moves enough for the memory that it holds. Any byte is a sign of life, but one byte now and then must not keep
// megabytes that others wait for: within a period a part of what was held at its beginning must have come in or gone back.

/** The part that must move in a period: of 32 MiB of payload in 30 s, 70 kB/s. */
const leastPart = 1 / 16;

export class Pace {
  #sinceMs = 0;
  #heldBytes = 0;
  #movedBytes = 0;

  /**
   * Told every now and then. A period ends early when enough has moved, and lasts until then otherwise.
   * @param heldBytes now. @param movedBytes since the connection began: received, and given back.
   * @returns for how long the connection has been too slow; 0 when it is not.
   */
  slowForMs(nowMs: number, heldBytes: number, movedBytes: number): number {
    if (heldBytes > 0 && movedBytes - this.#movedBytes < this.#heldBytes * leastPart) return nowMs - this.#sinceMs;
    this.#sinceMs = nowMs;
    this.#heldBytes = heldBytes;
    this.#movedBytes = movedBytes;
    return 0;
  }
}
