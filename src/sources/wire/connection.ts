// One TCP or TLS connection, read on demand. While a caller fills a buffer, the socket reads straight into that buffer (the `onread` option
// of node:net): no stream, no chunk objects, no copy but for what arrives together with a head. Measured on loopback, that carries
// twice what node:http does. What arrives while nobody reads is held, at most `scratchBytes`, and the socket pauses.
//
// A connection never resolves a name: it goes to an address that the URL policy answered.
import { connect as connectTcp, isIP, type OnReadOpts, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions, type SecureContext, type TLSSocket } from 'node:tls';
import type { Target } from '../url-policy.ts';
import type { Timeouts } from './timeouts.ts';
import { WireError } from './wire-error.ts';

const scratchBytes = 65_536;
const nothing = Buffer.alloc(0);

export interface ConnectOptions {
  timeouts: Timeouts;
  /** Trusted authorities; undefined for the well-known ones. */
  secureContext: SecureContext | undefined;
  signal: AbortSignal | undefined;
}

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

  /** Tries the target's addresses in turn. @throws WireError unreachable or untrusted; signal.reason. */
  static async open(target: Target, options: ConnectOptions): Promise<Connection> {
    const deadline = performance.now() + options.timeouts.connectMs;
    let failure: unknown;
    for (const [index, address] of target.addresses.entries()) {
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) break;
      // A share for each address: one that swallows packets must not use up the time of the others.
      const attemptMs = leftMs / Math.min(target.addresses.length - index, 4);
      try {
        return await openAddress(target, address, attemptMs, options);
      } catch (error) {
        options.signal?.throwIfAborted();
        if (error instanceof WireError && error.kind === 'untrusted') throw error;
        failure = error;
      }
    }
    throw new WireError('unreachable', 'no connection', { cause: failure });
  }

  constructor(address: string, timeouts: Timeouts, connectSocket: (onread: OnReadOpts) => Socket) {
    this.address = address;
    this.#timeouts = timeouts;
    this.#socket = connectSocket({ buffer: () => this.#landing, callback: (byteCount) => this.#take(byteCount) });
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
    if (this.#landing === this.#scratch) this.#takeFromScratch(this.#scratch.subarray(0, byteCount));
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

  #takeFromScratch(bytes: Buffer): void {
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

function openAddress(target: Target, address: string, withinMs: number, options: ConnectOptions): Promise<Connection> {
  const { timeouts, secureContext, signal } = options;
  if (isIP(address) === 0) throw new Error('a connection was asked for without a checked address');
  signal?.throwIfAborted();
  const place = { host: address, port: target.port };
  const connection = new Connection(address, timeouts, (onread) =>
    target.protocol === 'http:'
      ? connectTcp({ ...place, onread, noDelay: true, keepAlive: true })
      : connectTls({
          ...place,
          onread,
          noDelay: true,
          keepAlive: true,
          ...(target.servername === undefined ? {} : { servername: target.servername }),
          ...(secureContext === undefined ? {} : { secureContext }),
          ALPNProtocols: ['http/1.1'],
          // Said aloud, so that the environment of the process cannot turn it off.
          rejectUnauthorized: true,
        } as ConnectionOptions),
  );
  const { socket } = connection;
  return new Promise<Connection>((resolve, reject) => {
    const opened = target.protocol === 'http:' ? 'connect' : 'secureConnect';
    const timer = setTimeout(() => fail(new Error('timed out')), withinMs);
    const settle = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      socket.off(opened, onOpen).off('error', onError).off('close', onClose);
    };
    const fail = (error: Error) => {
      settle();
      connection.destroy();
      reject(error);
    };
    const onAbort = () => fail(signal!.reason as Error);
    const onError = (error: Error) => {
      // Set when the handshake worked and the certificate did not convince: then an HTTPS server has shown itself.
      const reason = (socket as TLSSocket).authorizationError as unknown;
      fail(reason ? new WireError('untrusted', codeOf(reason)) : error);
    };
    const onClose = () => fail(new Error('closed'));
    const onOpen = () => {
      settle();
      resolve(connection);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.once(opened, onOpen).once('error', onError).once('close', onClose);
  });
}

/** In spite of its declared type, a socket's authorizationError is a code or an error. */
const codeOf = (reason: unknown): string =>
  typeof reason === 'string' ? reason : ((reason as NodeJS.ErrnoException).code ?? 'unknown reason');
