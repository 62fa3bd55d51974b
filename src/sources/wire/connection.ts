// One TCP or TLS connection, read on demand. While a caller fills a buffer, the socket reads straight into that buffer (the `onread` option
// of node:net): no stream, no chunk objects, no copy but for what arrives together with a head. Measured on loopback, that carries
// twice what node:http does. What arrives while nobody reads is held, at most `scratchBytes`, and the socket pauses.
import type { OnReadOpts, Socket } from 'node:net';
import type { Timeouts } from './timeouts.ts';
import { WireError } from './wire-error.ts';

const scratchBytes = 65_536;
const nothing = Buffer.alloc(0);

export class Connection implements Disposable {
  readonly #socket: Socket;
  readonly #timeouts: Timeouts;
  readonly #scratch = Buffer.allocUnsafeSlow(scratchBytes);
  /** Where the socket puts what it reads next: the scratch buffer, or the rest of the buffer that is being filled. */
  #landing: Uint8Array = this.#scratch;
  /** Arrived and not yet taken. */
  #held: Buffer = nothing;
  #paused = false;
  #filling: { target: Uint8Array; filledBytes: number } | undefined;
  #wake: (() => void) | undefined;
  #ended = false;
  #failure: Error | undefined;
  /** The checked address that it leads to. */
  readonly address: string;
  /** Bytes that have arrived since the connection was opened. */
  receivedBytes = 0;

  /**
   * @param connectSocket makes the socket; with the `onread` that it is given, or, where the socket cannot have one (a tunnel), without:
   * then bytes are copied once more.
   */
  constructor(
    address: string,
    timeouts: Timeouts,
    connectSocket: (onread: OnReadOpts | undefined) => Socket,
    isTunnelled = false,
  ) {
    this.address = address;
    this.#timeouts = timeouts;
    const onread = { buffer: () => this.#landing, callback: (byteCount: number) => this.#take(byteCount) };
    this.#socket = connectSocket(isTunnelled ? undefined : onread);
    if (isTunnelled) this.#socket.on('data', (bytes: Buffer) => this.#takeChunk(bytes)).resume();
    this.#socket.on('error', (error) => this.#fail(new WireError('broken', 'the connection broke', { cause: error })));
    this.#socket.on('end', () => this.#end());
    this.#socket.on('close', () => this.#end());
  }

  /** The socket, for events of its life; its bytes are read here alone. */
  get socket(): Socket {
    return this.#socket;
  }

  /** Open, with nothing arrived that nobody asked for. */
  get isIdle(): boolean {
    return !this.#ended && this.#failure === undefined && this.#held.length === 0;
  }

  send(text: string): void {
    this.#socket.write(text, 'latin1');
  }

  /**
   * Reads until `target` is full or the stream ends and answers how many bytes it put there. When the connection fails after some
   * bytes, it answers those, and the next call throws. @throws WireError broken.
   */
  async fill(target: Uint8Array): Promise<number> {
    const fromHeld = Math.min(this.#held.length, target.length);
    target.set(this.#held.subarray(0, fromHeld));
    this.#held = this.#held.subarray(fromHeld);
    if (fromHeld === target.length) return fromHeld;
    const filling = { target, filledBytes: fromHeld };
    this.#filling = filling;
    try {
      while (filling.filledBytes < target.length && !this.#ended && this.#failure === undefined) await this.#arrival();
    } finally {
      this.#filling = undefined;
      this.#landing = this.#scratch;
    }
    if (filling.filledBytes === 0 && this.#failure !== undefined) throw this.#failure;
    return filling.filledBytes;
  }

  /**
   * Reads up to and including `end`, at most `limitBytes`, and answers it as latin1; undefined when the stream ended before the first
   * byte. What it throws for stays unread.
   * @throws WireError malformed when it is longer or does not begin with `start`, broken when the stream ends within it.
   */
  async readThrough(end: string, limitBytes: number, start = ''): Promise<string | undefined> {
    let searched = 0;
    for (;;) {
      if (!start.startsWith(this.peek(start.length))) throw new WireError('malformed', `it does not begin with ${start}`);
      const at = this.#held.indexOf(end, Math.max(0, searched - end.length + 1), 'latin1');
      if (at !== -1 && at + end.length <= limitBytes) {
        const text = this.#held.toString('latin1', 0, at + end.length);
        this.#held = this.#held.subarray(at + end.length);
        return text;
      }
      if (at !== -1 || this.#held.length >= limitBytes) throw new WireError('malformed', `it is longer than ${limitBytes} bytes`);
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#ended) {
        if (this.#held.length === 0) return undefined;
        throw new WireError('broken', 'the connection ended early');
      }
      searched = this.#held.length;
      await this.#arrival();
    }
  }

  /** The first bytes of what has arrived and was not taken, without taking them. */
  peek(limitBytes: number): string {
    return this.#held.toString('latin1', 0, limitBytes);
  }

  /** While it lives, the connection fails when bytes come slower than the timeouts allow. */
  watchForStall(): Disposable {
    const { stallMs, minimumRate } = this.#timeouts;
    let before = this.receivedBytes;
    const timer = setInterval(() => {
      const arrived = this.receivedBytes - before;
      before = this.receivedBytes;
      if (arrived >= (minimumRate * stallMs) / 1000) return;
      this.destroy(new WireError('broken', `only ${arrived} bytes arrived in ${stallMs / 1000} s`));
    }, stallMs);
    return { [Symbol.dispose]: () => clearInterval(timer) };
  }

  /** Ends the connection at once; whoever waits gets `reason`. No byte is written to any buffer after that. */
  destroy(reason: Error = new WireError('broken', 'the connection was closed')): void {
    this.#fail(reason);
    this.#socket.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }

  /** Resolves when something has arrived or the stream has ended. */
  #arrival(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      if (!this.#paused) return;
      this.#paused = false;
      this.#socket.resume();
    });
  }

  /** @returns false to pause the socket. */
  #take(byteCount: number): boolean {
    this.receivedBytes += byteCount;
    const filling = this.#filling;
    if (this.#landing === this.#scratch) this.#distribute(this.#scratch.subarray(0, byteCount));
    else if (filling !== undefined) filling.filledBytes += byteCount;
    if (filling !== undefined && filling.filledBytes < filling.target.length) {
      this.#landing = filling.target.subarray(filling.filledBytes);
      return true;
    }
    this.#landing = this.#scratch;
    this.#paused = this.#held.length > 0;
    this.#awaken();
    return !this.#paused;
  }

  /** What `#take` does, for a socket that brings its own buffers. */
  #takeChunk(bytes: Buffer): void {
    this.receivedBytes += bytes.length;
    this.#distribute(bytes);
    if (this.#filling !== undefined && this.#filling.filledBytes < this.#filling.target.length) return;
    this.#paused = this.#held.length > 0;
    if (this.#paused) this.#socket.pause();
    this.#awaken();
  }

  /** To the buffer that is being filled, and what is more is held. */
  #distribute(bytes: Buffer): void {
    const { target, filledBytes } = this.#filling ?? { target: nothing, filledBytes: 0 };
    const taken = Math.min(bytes.length, target.length - filledBytes);
    target.set(bytes.subarray(0, taken), filledBytes);
    if (this.#filling !== undefined) this.#filling.filledBytes += taken;
    // Copied, because a paused socket may still write: TLS hands over what it has decrypted already.
    if (taken < bytes.length) this.#held = Buffer.concat([this.#held, bytes.subarray(taken)]);
  }

  #end(): void {
    this.#ended = true;
    this.#awaken();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#awaken();
  }

  #awaken(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
