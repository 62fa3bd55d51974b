// One connection in its transmission phase: requests come in, the device works, answers go out in the order in which they are ready.
// Nothing here waits for anything: bytes are parsed as they come, and while the connection has too much in flight they are left where
// they are and the socket is not read. Ends once: by DISC, by the client's going, by the server's closing, or because the export ended.
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { type BlockDevice, BlockDeviceError } from './block-device.ts';
import { type BufferPool, ConnectionMemory } from './buffer-pool.ts';
import { readDirectly } from './direct-socket.ts';
import { Execution, type NbdCounters } from './execution.ts';
import { Incoming } from './incoming.ts';
import { Pace } from './pace.ts';
import { Command, CommandFlag } from './protocol.ts';
import { Replies } from './replies.ts';
import { ReplyQueue } from './reply-queue.ts';
import type { RequestHeader } from './request-codec.ts';
import { type Agreement, refusal } from './request-rules.ts';

export interface SessionLimits {
  /** Requests that one connection may have in flight; more wait in its socket. */
  maxRequests: number;
  /** Bytes of payload and replies that one connection may hold before its socket is not read; one more request may pass it. */
  maxHeldBytes: number;
}

export interface SessionOptions {
  /** Nobody else uses it from now on. */
  socket: Duplex;
  device: BlockDevice;
  agreed: Agreement;
  pool: BufferPool;
  limits: SessionLimits;
  counters: NbdCounters;
  /** A device failed in a way that is not a BlockDeviceError. */
  onError: (error: unknown) => void;
}

/** How long a client that was told goodbye has to go. */
const goodbyeMs = 10_000;

export class Session {
  readonly #socket: Duplex;
  /** What is received lies in memory that the next read overwrites. */
  readonly #isDirect: boolean;
  readonly #device: BlockDevice;
  readonly #agreed: Agreement;
  readonly #pool: BufferPool;
  readonly #limits: SessionLimits;
  readonly #memory: ConnectionMemory;
  readonly #incoming: Incoming;
  readonly #queue: ReplyQueue;
  readonly #execution: Execution;
  readonly #aborted = new AbortController();
  readonly #settled = Promise.withResolvers<void>();

  /** What was read from the socket while too much was in flight. */
  #rest: Uint8Array | undefined;
  #receiving = false;
  #flushScheduled = false;
  readonly #retry = (): void => this.#continue();
  /** No more requests are taken: DISC came, or the server closes. */
  #draining = false;
  #flushedAtEnd = false;
  #saidGoodbye = false;
  #deviceClosed: Promise<void> | undefined;
  #endReason = 'the client left without saying goodbye';
  #progressAtMs = performance.now();
  #receivedBytes = 0;
  readonly #pace = new Pace();

  constructor({ socket, device, agreed, pool, limits, counters, onError }: SessionOptions) {
    this.#device = device;
    this.#agreed = agreed;
    this.#pool = pool;
    this.#limits = limits;
    this.#incoming = new Incoming({
      isOpen: () => !this.#draining && !this.#aborted.signal.aborted,
      hasRoom: () => this.#hasRoom(),
      request: (header) => this.#request(header),
      write: (write) => this.#execution.write(write),
      broken: () => this.end('the client broke the protocol: a request does not begin with its magic number'),
    });
    const reader = { target: () => this.#incoming.target(), received: (bytes: Uint8Array) => this.#arrived(bytes) };
    const direct = socket instanceof Socket && !(socket instanceof TLSSocket) ? readDirectly(socket, reader) : undefined;
    this.#socket = direct ?? socket;
    this.#isDirect = direct !== undefined;
    this.#memory = new ConnectionMemory(pool, () => {
      this.#progressAtMs = performance.now();
      if (this.#rest !== undefined) this.#continue();
    });
    this.#queue = new ReplyQueue(this.#socket, this.#memory);
    this.#execution = new Execution({
      device,
      replies: new Replies(this.#queue, this.#memory, agreed.structuredReplies),
      memory: this.#memory,
      counters,
      signal: this.#aborted.signal,
      onError,
      onSettled: () => this.#onSettled(),
    });
  }

  /** Serves until the end; resolves when the connection is closed and the device is disposed of. Answers why it ended. */
  async run(): Promise<string> {
    const socket = this.#socket;
    const closed = new Promise<void>((resolve) => socket.once('close', resolve));
    const onEnded = (): void => this.end('the export has ended');
    this.#device.ended.addEventListener('abort', onEnded, { once: true });
    socket.on('error', (error) => this.end(`the connection failed: ${error.message}`));
    if (!this.#isDirect) socket.on('data', (chunk: Buffer) => this.#arrived(chunk));
    if (this.#device.ended.aborted) onEnded();
    if (socket.destroyed) this.end(this.#endReason);
    else await closed;
    this.#device.ended.removeEventListener('abort', onEnded);
    this.#close();
    await this.#settled.promise;
    await this.#closeDevice();
    return this.#endReason;
  }

  /** For how long it has moved too little for the memory that it holds; see Pace. */
  slowForMs(nowMs: number): number {
    const { heldBytes, givenBytes } = this.#memory;
    // While the device works on something, the client is not who is waited for.
    const itsBytes = this.#execution.inFlight > 0 ? 0 : heldBytes;
    return this.#pace.slowForMs(nowMs, itsBytes, this.#receivedBytes + givenBytes);
  }

  /** When something last came in or went out (performance.now). */
  get progressAtMs(): number {
    return this.#progressAtMs;
  }

  /** At once; what is in flight is not answered. */
  end(reason: string): void {
    if (this.#aborted.signal.aborted) return;
    this.#endReason = reason;
    this.#socket.destroy();
    this.#close();
  }

  /** Takes no more requests, answers those in flight, makes it durable, and closes. */
  drain(reason: string): void {
    if (this.#draining || this.#aborted.signal.aborted) return;
    this.#draining = true;
    this.#endReason = reason;
    this.#rest = undefined;
    this.#finishDraining();
  }

  /** The socket is destroyed: nothing reads into a payload's buffer any more. */
  #close(): void {
    if (this.#aborted.signal.aborted) return;
    this.#aborted.abort(new BlockDeviceError('ESHUTDOWN', this.#endReason));
    this.#rest = undefined;
    this.#pool.stopWaiting(this.#retry);
    const payload = this.#incoming.abandon();
    if (payload !== undefined) this.#memory.give(payload);
    this.#queue.discard();
    if (this.#execution.inFlight === 0) this.#settled.resolve();
  }

  /** After the last call. */
  #closeDevice(): Promise<void> {
    this.#deviceClosed ??= Promise.resolve(this.#device[Symbol.asyncDispose]());
    return this.#deviceClosed;
  }

  /**
   * When the last answer is ready: one flush, so that nothing answered depends on how the device is closed. Goodbye comes when it is
   * closed: a client that waits for it may open the same export at once.
   */
  #finishDraining(): void {
    if (this.#execution.inFlight > 0 || this.#aborted.signal.aborted || this.#saidGoodbye) return;
    if (!this.#device.readOnly && !this.#flushedAtEnd) {
      this.#flushedAtEnd = true;
      void this.#execution.flushAtEnd();
      return;
    }
    this.#saidGoodbye = true;
    this.#queue.flush();
    // What it fails with is told where the session's end is waited for.
    const hangUp = (): unknown => this.#socket.end();
    this.#closeDevice().then(hangUp, hangUp);
    // A client that neither reads nor closes is not waited for.
    const timer = setTimeout(() => this.end(this.#endReason), goodbyeMs);
    this.#socket.once('close', () => clearTimeout(timer));
  }

  #arrived(chunk: Uint8Array): void {
    this.#progressAtMs = performance.now();
    this.#receivedBytes += chunk.length;
    this.#receive(chunk);
  }

  #receive(chunk: Uint8Array): void {
    if (this.#draining || this.#aborted.signal.aborted) return;
    if (this.#rest !== undefined) {
      // The socket was paused too late for this one.
      this.#rest = Buffer.concat([this.#rest, chunk]);
      return;
    }
    this.#receiving = true;
    const rest = this.#incoming.parse(chunk);
    this.#receiving = false;
    if (rest !== undefined) {
      this.#rest = this.#isDirect ? Buffer.from(rest) : rest;
      this.#socket.pause();
    }
    if (!this.#aborted.signal.aborted) this.#queue.flush();
    if (this.#draining) this.#finishDraining();
  }

  /** There may be room again. */
  #continue(): void {
    const rest = this.#rest;
    if (rest === undefined || this.#receiving || !this.#hasRoom()) return;
    this.#pool.stopWaiting(this.#retry);
    this.#rest = undefined;
    this.#receive(rest);
    if (this.#rest === undefined) this.#socket.resume();
  }

  #hasRoom(): boolean {
    if (this.#execution.inFlight >= this.#limits.maxRequests || this.#memory.heldBytes >= this.#limits.maxHeldBytes) return false;
    if (this.#pool.hasRoom(this.#memory.heldBytes)) return true;
    this.#pool.waitForRoom(this.#retry, () => this.#memory.heldBytes);
    return false;
  }

  #request(header: RequestHeader): void {
    const { command, flags, cookieHigh, cookieLow, offset, length } = header;
    if (command === Command.disconnect) {
      this.#endReason = 'the client disconnected';
      this.#draining = true;
      return;
    }
    const refused = refusal(header, this.#device, this.#agreed);
    if (refused !== undefined) {
      const refuse = (): void => this.#execution.refuse(cookieHigh, cookieLow, refused);
      if (command === Command.write && length > 0) this.#incoming.skipPayload(length, refuse);
      else refuse();
    } else if (command === Command.write && length > 0) {
      const fua = (flags & CommandFlag.fua) !== 0;
      const buffer = this.#memory.take(length);
      this.#incoming.takePayload({ buffer, filled: 0, offset, length, fua, cookieHigh, cookieLow });
    } else {
      this.#execution.run(header);
    }
  }

  #onSettled(): void {
    const { inFlight } = this.#execution;
    if (this.#aborted.signal.aborted) {
      if (inFlight === 0) this.#settled.resolve();
      return;
    }
    if (this.#draining) this.#finishDraining();
    else if (this.#rest !== undefined) this.#continue();
    if (this.#queue.isEmpty) return;
    // The last one leaves at once; where more are under way, those that end in the same turn leave together.
    if (this.#execution.inFlight === 0) this.#queue.flush();
    else if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      setImmediate(() => {
        this.#flushScheduled = false;
        if (!this.#aborted.signal.aborted) this.#queue.flush();
      });
    }
  }
}
