// One read of a part of a chunk that waits for blocks: each is copied to its place when it arrives. Nothing is written into the target
// once the promise has settled, aborted or not.
import { blockBytes } from '../sizes.ts';
import type { BlockWaiter } from './chunk-cache.ts';

export class BlockRead implements BlockWaiter {
  readonly promise: Promise<void>;
  readonly #target: Uint8Array;
  readonly #start: number;
  #missing: number;
  #settled = false;
  #resolve!: () => void;
  #reject!: (error: unknown) => void;
  readonly #signal: AbortSignal | undefined;
  readonly #abort = (): void => this.failed(this.#signal?.reason);

  /** @param missing how many times `arrived` will be called. */
  constructor(target: Uint8Array, start: number, missing: number, signal: AbortSignal | undefined) {
    this.#target = target;
    this.#start = start;
    this.#missing = missing;
    this.#signal = signal;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    if (signal?.aborted) this.#abort();
    else signal?.addEventListener('abort', this.#abort, { once: true });
    if (missing === 0) this.#settle(this.#resolve);
  }

  arrived(index: number, bytes: Uint8Array): void {
    if (this.#settled) return;
    const from = Math.max(0, this.#start - index * blockBytes);
    const at = index * blockBytes + from - this.#start;
    const length = Math.min(blockBytes - from, this.#target.length - at);
    this.#target.set(bytes.subarray(from, from + length), at);
    this.#missing -= 1;
    if (this.#missing === 0) this.#settle(this.#resolve);
  }

  failed(error: unknown): void {
    if (!this.#settled) this.#settle(() => this.#reject(error));
  }

  #settle(how: () => void): void {
    this.#settled = true;
    this.#signal?.removeEventListener('abort', this.#abort);
    how();
  }
}
