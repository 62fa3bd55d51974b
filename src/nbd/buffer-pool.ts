// The memory of a server's connections: buffers of a few sizes that are used again, because making and clearing megabytes for each
// request costs more than the request. How much is lent is known, so that connections stop reading while it is too much. A buffer
// comes back dirty and is lent dirty: whoever sends bytes of one has written them. Sizes are bytes.

/** Room before the data of a reply for its header. */
export const headroomBytes = 64;
const smallestBytes = 4096;

export class BufferPool {
  readonly #maxLentBytes: number;
  readonly #reservedBytes: number;
  readonly #maxKeptBytes: number;
  /** Free buffers by the logarithm of their size. */
  readonly #free: Buffer[][] = Array.from({ length: 32 }, () => []);
  /** Who waits, in the order of asking, with what he holds. */
  readonly #waiting = new Map<() => void, () => number>();
  #lentBytes = 0;
  #keptBytes = 0;

  /**
   * @param maxLentBytes where hasRoom ends. @param maxKeptBytes how much of what came back is kept for later.
   * @param reservedBytes beyond maxLentBytes, for those who hold nothing yet.
   */
  constructor({
    maxLentBytes,
    maxKeptBytes,
    reservedBytes = 0,
  }: {
    maxLentBytes: number;
    maxKeptBytes: number;
    reservedBytes?: number;
  }) {
    this.#maxLentBytes = maxLentBytes;
    this.#reservedBytes = reservedBytes;
    this.#maxKeptBytes = maxKeptBytes;
  }

  get lentBytes(): number {
    return this.#lentBytes;
  }

  /** Whether others wait until something comes back. */
  get isShort(): boolean {
    return this.#waiting.size > 0;
  }

  /**
   * Asked before a request is taken in, with what its connection holds; take() itself refuses nothing, so that the bound is passed by one
   * request per connection at most. Who holds nothing is let into the reserve too: requests that wait for their devices must not
   * keep out those that need not wait.
   */
  hasRoom(heldBytes = Infinity): boolean {
    return this.#lentBytes < this.#maxLentBytes + (heldBytes === 0 ? this.#reservedBytes : 0);
  }

  /** Calls `retry` once, when there is room again for one who holds `heldBytes()`; in the order of asking. Asking twice is asking once. */
  waitForRoom(retry: () => void, heldBytes: () => number): void {
    if (!this.#waiting.has(retry)) this.#waiting.set(retry, heldBytes);
  }

  stopWaiting(retry: () => void): void {
    this.#waiting.delete(retry);
  }

  /** A buffer of at least headroomBytes + `bytes`. */
  take(bytes: number): Buffer {
    const order = 32 - Math.clz32(Math.max(bytes, smallestBytes) - 1);
    const kept = this.#free[order]!.pop();
    const buffer = kept ?? Buffer.allocUnsafeSlow(2 ** order + headroomBytes);
    if (kept !== undefined) this.#keptBytes -= buffer.length;
    this.#lentBytes += buffer.length;
    return buffer;
  }

  give(buffer: Buffer): void {
    this.#lentBytes -= buffer.length;
    if (this.#keptBytes + buffer.length <= this.#maxKeptBytes) {
      this.#free[31 - Math.clz32(buffer.length - headroomBytes)]!.push(buffer);
      this.#keptBytes += buffer.length;
    }
    if (this.#waiting.size > 0 && this.hasRoom(0)) this.#wake();
  }

  #wake(): void {
    // Of now: who is called may wait again, and is not called twice.
    const waiting = [...this.#waiting];
    for (const [retry, heldBytes] of waiting) {
      if (!this.hasRoom(0)) return;
      if (!this.hasRoom(heldBytes())) continue;
      if (this.#waiting.delete(retry)) retry();
    }
  }
}

/** What one connection has of the pool. */
export class ConnectionMemory {
  readonly #pool: BufferPool;
  readonly #onGiven: () => void;
  heldBytes = 0;
  /** All that ever went back. */
  givenBytes = 0;

  /** @param onGiven called after something went back. */
  constructor(pool: BufferPool, onGiven: () => void) {
    this.#pool = pool;
    this.#onGiven = onGiven;
  }

  take(bytes: number): Buffer {
    const buffer = this.#pool.take(bytes);
    this.heldBytes += buffer.length;
    return buffer;
  }

  give(buffer: Buffer): void {
    this.heldBytes -= buffer.length;
    this.givenBytes += buffer.length;
    this.#pool.give(buffer);
    this.#onGiven();
  }
}
