// The requests of one connection as calls of its device, and what comes of them as replies. Calls overlap; each is answered when it
// settles; only block statuses wait for one another. After the signal nothing is answered, but every call is still waited for: only then may the device be closed.
import { type BlockDevice, BlockDeviceError, type BlockRun } from './block-device.ts';
import { allocationRuns, maxRuns } from './block-status.ts';
import { type ConnectionMemory, headroomBytes } from './buffer-pool.ts';
import type { IncomingWrite } from './incoming.ts';
import { Command, CommandFlag } from './protocol.ts';
import type { ReadReply, Replies } from './replies.ts';
import { smallReplyBytes } from './reply-queue.ts';
import type { RequestHeader } from './request-codec.ts';
import type { Refusal } from './request-rules.ts';

/** What a server counts, over all of its connections. Numbers only go up. */
export interface NbdCounters {
  reads: number;
  writes: number;
  flushes: number;
  trims: number;
  zeroes: number;
  blockStatuses: number;
  /** Requests that were answered with an error. */
  failures: number;
  readBytes: number;
  writtenBytes: number;
}

export const newCounters = (): NbdCounters => ({
  reads: 0,
  writes: 0,
  flushes: 0,
  trims: 0,
  zeroes: 0,
  blockStatuses: 0,
  failures: 0,
  readBytes: 0,
  writtenBytes: 0,
});

export interface ExecutionOptions {
  device: BlockDevice;
  replies: Replies;
  memory: ConnectionMemory;
  counters: NbdCounters;
  /** Given to every call. */
  signal: AbortSignal;
  /** A device failed in a way that is not a BlockDeviceError. */
  onError: (error: unknown) => void;
  /** After each call, and its reply. */
  onSettled: () => void;
}

export class Execution {
  readonly #device: BlockDevice;
  readonly #replies: Replies;
  readonly #memory: ConnectionMemory;
  readonly #counters: NbdCounters;
  readonly #signal: AbortSignal;
  readonly #onError: (error: unknown) => void;
  readonly #onSettled: () => void;
  readonly #readNow: ((target: Uint8Array, offset: number) => boolean) | undefined;
  #inFlight = 0;
  /** Settles when the next block status may begin. */
  #statusTurn: Promise<unknown> = Promise.resolve();

  constructor({ device, replies, memory, counters, signal, onError, onSettled }: ExecutionOptions) {
    this.#device = device;
    this.#replies = replies;
    this.#memory = memory;
    this.#counters = counters;
    this.#signal = signal;
    this.#onError = onError;
    this.#onSettled = onSettled;
    this.#readNow = device.readNow?.bind(device);
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  refuse(cookieHigh: number, cookieLow: number, { code, message }: Refusal): void {
    this.#counters.failures += 1;
    this.#replies.failure(cookieHigh, cookieLow, code, message);
  }

  /** A request without a payload, which request-rules let through. */
  run({ command, flags, cookieHigh, cookieLow, offset, length }: RequestHeader): void {
    const device = this.#device;
    const counters = this.#counters;
    const signal = this.#signal;
    const fua = (flags & CommandFlag.fua) !== 0;
    switch (command) {
      case Command.read:
        counters.reads += 1;
        counters.readBytes += length;
        if (length === 0) this.#replies.success(cookieHigh, cookieLow);
        else this.#read({ cookieHigh, cookieLow, offset, length, whole: (flags & CommandFlag.df) !== 0 });
        return;
      case Command.write:
        // Of nothing: what has a payload comes by write().
        counters.writes += 1;
        this.#replies.success(cookieHigh, cookieLow);
        return;
      case Command.flush:
        counters.flushes += 1;
        if (device.readOnly) this.#replies.success(cookieHigh, cookieLow);
        else this.#change(cookieHigh, cookieLow, () => device.flush(signal));
        return;
      case Command.trim:
        counters.trims += 1;
        if (length === 0) this.#replies.success(cookieHigh, cookieLow);
        else this.#change(cookieHigh, cookieLow, () => device.trim(offset, length, fua, signal));
        return;
      case Command.writeZeroes: {
        counters.zeroes += 1;
        const options = { fua, mayTrim: (flags & CommandFlag.noHole) === 0, fast: (flags & CommandFlag.fastZero) !== 0 };
        if (length === 0) this.#replies.success(cookieHigh, cookieLow);
        else this.#change(cookieHigh, cookieLow, () => device.writeZeroes(offset, length, options, signal));
        return;
      }
      case Command.blockStatus: {
        counters.blockStatuses += 1;
        const oneRun = (flags & CommandFlag.reqOne) !== 0;
        this.#start(
          cookieHigh,
          cookieLow,
          () => this.#blockStatus(offset, length, oneRun ? 1 : maxRuns),
          (runs) => {
            const allowed = allocationRuns(runs, { offset, length }, device.sizeBytes, oneRun);
            this.#replies.blockStatus(cookieHigh, cookieLow, allowed);
          },
        );
      }
    }
  }

  /**
   * A device mostly knows its runs by heart, and takes milliseconds to tell them without letting anybody else run. One at a time, and
   * a turn of the event loop between two, so that a client that asks for many holds up nobody but itself.
   */
  #blockStatus(offset: number, length: number, count: number): Promise<BlockRun[]> {
    const runs = this.#statusTurn.then(() => {
      this.#signal.throwIfAborted();
      return this.#device.blockStatus(offset, length, count, this.#signal);
    });
    this.#statusTurn = runs.then(nextTurn, nextTurn);
    return runs;
  }

  /** A write with its payload; the buffer is this one's from now on. */
  write({ buffer, offset, length, fua, cookieHigh, cookieLow }: IncomingWrite): void {
    this.#counters.writes += 1;
    this.#counters.writtenBytes += length;
    const give = (): void => this.#memory.give(buffer);
    this.#start(
      cookieHigh,
      cookieLow,
      () => this.#device.write(buffer.subarray(headroomBytes, headroomBytes + length), offset, fua, this.#signal),
      () => {
        give();
        this.#replies.success(cookieHigh, cookieLow);
      },
      give,
    );
  }

  /** A flush that nobody asked for and nobody is answered. */
  async flushAtEnd(): Promise<void> {
    this.#inFlight += 1;
    try {
      await this.#device.flush(this.#signal);
    } catch (error) {
      if (!(error instanceof BlockDeviceError)) this.#onError(error);
    }
    this.#settle();
  }

  #read(read: ReadReply): void {
    const { cookieHigh, cookieLow, offset, length } = read;
    const replies = this.#replies;
    let buffer: Buffer | undefined;
    if (this.#readNow !== undefined) {
      try {
        if (length <= smallReplyBytes) {
          if (replies.dataNow(read, this.#readNow)) return;
        } else {
          buffer = this.#memory.take(length);
          if (this.#readNow(buffer.subarray(headroomBytes, headroomBytes + length), offset)) {
            replies.data(read, buffer);
            return;
          }
        }
      } catch (error) {
        if (buffer !== undefined) this.#memory.give(buffer);
        this.#fail(cookieHigh, cookieLow, error);
        return;
      }
    }
    const target = buffer ?? this.#memory.take(length);
    this.#start(
      cookieHigh,
      cookieLow,
      () => this.#device.read(target.subarray(headroomBytes, headroomBytes + length), offset, this.#signal),
      () => replies.data(read, target),
      () => this.#memory.give(target),
    );
  }

  #change(cookieHigh: number, cookieLow: number, call: () => Promise<void>): void {
    this.#start(cookieHigh, cookieLow, call, () => this.#replies.success(cookieHigh, cookieLow));
  }

  /** Begins a call of the device; `answer` runs when it succeeded and somebody still listens, else `drop`. */
  #start<T>(cookieHigh: number, cookieLow: number, call: () => Promise<T>, answer: (value: T) => void, drop?: () => void): void {
    this.#inFlight += 1;
    let promise: Promise<T>;
    try {
      promise = call();
    } catch (error) {
      promise = Promise.reject(error);
    }
    promise.then(
      (value) => {
        if (this.#signal.aborted) drop?.();
        else this.#answer(cookieHigh, cookieLow, () => answer(value));
        this.#settle();
      },
      (error: unknown) => {
        drop?.();
        if (!this.#signal.aborted) this.#fail(cookieHigh, cookieLow, error);
        this.#settle();
      },
    );
  }

  /** An answer that the device may not give is its failure. */
  #answer(cookieHigh: number, cookieLow: number, answer: () => void): void {
    try {
      answer();
    } catch (error) {
      this.#fail(cookieHigh, cookieLow, error);
    }
  }

  #fail(cookieHigh: number, cookieLow: number, error: unknown): void {
    const known = error instanceof BlockDeviceError;
    if (!known) this.#onError(error);
    this.refuse(cookieHigh, cookieLow, known ? error : { code: 'EIO', message: 'the server could not do it' });
  }

  #settle(): void {
    this.#inFlight -= 1;
    this.#onSettled();
  }
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
