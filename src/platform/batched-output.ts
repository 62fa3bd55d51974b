// Lines to a file descriptor, many with one write, never waiting for a slow reader: the service goes on, and what does not fit is
// dropped and counted. (pino's own asynchronous destination costs twice as much processor time as the line that it writes.)
import { write, writeSync } from 'node:fs';

export interface BatchedOutputOptions {
  fd: number;
  /** Lines are written when so many bytes are there … */
  batchBytes: number;
  /** … or so much time has passed. */
  batchMs: number;
  /** Most bytes that wait for a reader. */
  maxWaitingBytes: number;
  /** What to write once a reader takes lines again after `count` were dropped; with its line feed. */
  describeDropped: (count: number) => string;
}

/** Whatever waits at an orderly exit of the process is written then. Lines count as bytes by their length: most are ASCII. */
export class BatchedOutput {
  readonly #options: BatchedOutputOptions;
  #lines: string[] = [];
  #waitingBytes = 0;
  #dropped = 0;
  #timer: NodeJS.Timeout | undefined;
  #isWriting = false;
  #isBroken = false;

  constructor(options: BatchedOutputOptions) {
    this.#options = options;
    process.once('exit', () => this.#writeAllNow());
  }

  /** Takes a line with its line feed. */
  write(line: string): void {
    if (this.#isBroken) return;
    if (this.#waitingBytes > this.#options.maxWaitingBytes) {
      this.#dropped += 1;
      return;
    }
    this.#lines.push(line);
    this.#waitingBytes += line.length;
    if (this.#waitingBytes >= this.#options.batchBytes) this.#writeNext();
    else this.#timer ??= setTimeout(() => this.#writeNext(), this.#options.batchMs).unref();
  }

  #take(): Buffer {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#dropped > 0) this.#lines.push(this.#options.describeDropped(this.#dropped));
    const bytes = Buffer.from(this.#lines.join(''));
    this.#lines = [];
    this.#waitingBytes = 0;
    this.#dropped = 0;
    return bytes;
  }

  #writeNext(): void {
    if (this.#isWriting || this.#lines.length === 0) return;
    this.#isWriting = true;
    this.#writeBytes(this.#take());
  }

  #writeBytes(bytes: Buffer): void {
    write(this.#options.fd, bytes, (error, written) => {
      if (error !== null && error.code !== 'EAGAIN') {
        // Nobody reads any more, and there is nobody to tell.
        this.#isBroken = true;
        return;
      }
      const rest = error === null ? bytes.subarray(written) : bytes;
      if (rest.length > 0) {
        setTimeout(() => this.#writeBytes(rest), error === null ? 0 : this.#options.batchMs);
        return;
      }
      this.#isWriting = false;
      if (this.#waitingBytes >= this.#options.batchBytes) this.#writeNext();
      else if (this.#lines.length > 0) this.#timer ??= setTimeout(() => this.#writeNext(), this.#options.batchMs).unref();
    });
  }

  #writeAllNow(): void {
    if (this.#isBroken || this.#lines.length === 0) return;
    // A write that is under way in another thread is finished by the end of the process; let it be first.
    if (this.#isWriting) pause();
    let rest = this.#take();
    for (let tries = 0; rest.length > 0 && tries < maxPauses;) {
      try {
        rest = rest.subarray(writeSync(this.#options.fd, rest));
        tries = 0;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return;
        tries += 1;
        pause();
      }
    }
  }
}

const pauseMs = 5;
/** A reader that takes nothing for a second at the exit gets no more. */
const maxPauses = 200;

function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pauseMs);
}
