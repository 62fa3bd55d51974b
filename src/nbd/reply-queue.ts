// What goes out on a connection: small replies are written side by side into one buffer, large ones stay where they were read to, and
// all of it leaves in one system call when flush is called. Buffers go back to the pool when the socket has taken their bytes.
import type { Writable } from 'node:stream';
import type { ConnectionMemory } from './buffer-pool.ts';

/** Replies up to this size are copied together. */
export const smallReplyBytes = 64 * 1024;
const gatherBytes = 256 * 1024;

export class ReplyQueue {
  readonly #socket: Writable;
  readonly #memory: ConnectionMemory;
  /** Where small replies gather; `#used` of it is filled. */
  #gather: Buffer | undefined;
  #used = 0;
  /** What flush will write, and the buffers that it then frees (undefined where a buffer has more pieces to come). */
  readonly #pieces: Uint8Array[] = [];
  readonly #owners: (Buffer | undefined)[] = [];
  /** Owners of what the socket has not yet taken, oldest first from `#firstWriting` on. */
  readonly #writing: (Buffer | undefined)[] = [];
  #firstWriting = 0;
  readonly #onWritten = (): void => this.#written();

  constructor(socket: Writable, memory: ConnectionMemory) {
    this.#socket = socket;
    this.#memory = memory;
  }

  get isEmpty(): boolean {
    return this.#used === 0 && this.#pieces.length === 0;
  }

  /** Room for a small reply of `bytes`: write it at the answered place of `gather`, and commit; without a commit it is not there. */
  reserve(bytes: number): number {
    if (this.#gather !== undefined && this.#used + bytes > this.#gather.length) this.#closeGather();
    this.#gather ??= this.#memory.take(gatherBytes);
    return this.#used;
  }

  get gather(): Buffer {
    return this.#gather!;
  }

  commit(bytes: number): void {
    this.#used += bytes;
  }

  /** A piece of a reply; with its last piece the queue becomes the owner of the buffer, which goes back when it has been sent. */
  push(piece: Uint8Array, owner: Buffer | undefined): void {
    if (this.#used > 0) this.#closeGather();
    this.#pieces.push(piece);
    this.#owners.push(owner);
  }

  flush(): void {
    if (this.#used > 0) this.#closeGather();
    else if (this.#gather !== undefined) this.#dropGather();
    const pieces = this.#pieces;
    if (pieces.length === 0) return;
    for (const owner of this.#owners) this.#writing.push(owner);
    if (pieces.length > 1) this.#socket.cork();
    for (const piece of pieces) this.#socket.write(piece, this.#onWritten);
    if (pieces.length > 1) this.#socket.uncork();
    pieces.length = 0;
    this.#owners.length = 0;
  }

  /** Gives back what was never handed to the socket; the socket calls back for the rest, with an error when it is destroyed. */
  discard(): void {
    if (this.#gather !== undefined) this.#dropGather();
    for (const owner of this.#owners) if (owner !== undefined) this.#memory.give(owner);
    this.#pieces.length = 0;
    this.#owners.length = 0;
  }

  #closeGather(): void {
    const gather = this.#gather!;
    this.#pieces.push(gather.subarray(0, this.#used));
    this.#owners.push(gather);
    this.#gather = undefined;
    this.#used = 0;
  }

  #dropGather(): void {
    const gather = this.#gather!;
    this.#gather = undefined;
    this.#used = 0;
    this.#memory.give(gather);
  }

  #written(): void {
    const owner = this.#writing[this.#firstWriting];
    this.#writing[this.#firstWriting] = undefined;
    this.#firstWriting += 1;
    if (this.#firstWriting === this.#writing.length) {
      this.#writing.length = 0;
      this.#firstWriting = 0;
    }
    if (owner !== undefined) this.#memory.give(owner);
  }
}
