// One connection in its transmission phase: requests come in, the device works, answers go out in the order in which they are ready.
// Nothing here waits for anything: bytes are parsed as they come, and while the connection has too much in flight they are left where
// they are and the socket is not read. Ends once: by DISC, by the client's going, by the server's closing, or because the export ended.
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { type BlockDevice, BlockDeviceError } from './block-device.ts';
import { allocationRuns, maxRuns } from './block-status.ts';
import { type BufferPool, ConnectionMemory, headroomBytes } from './buffer-pool.ts';
import { readDirectly } from './direct-socket.ts';
import { Command, CommandFlag } from './protocol.ts';
import { Replies, type ReadReply } from './replies.ts';
import { ReplyQueue, smallReplyBytes } from './reply-queue.ts';
import { type RequestHeader, decodeRequest, emptyRequest, requestBytes } from './request-codec.ts';
import { type Agreement, type Refusal, refusal } from './request-rules.ts';

const goodbyeMs = 10_000;

/** Where requests come to, of all connections: what is in it is taken out before anything else is read. */
const incoming = Buffer.allocUnsafeSlow(64 * 1024);
/** A payload of which at least so much is missing is read to where it belongs. */
const smallestDirectRead = 16 * 1024;

export interface SessionLimits {
  /** Requests that one connection may have in flight; more wait in its socket. */
  maxRequests: number;
  /** Bytes of payload and replies that one connection may hold before its socket is not read; one more request may pass it. */
  maxHeldBytes: number;
}

/** What a server counts, over all of its connections. Numbers only go up. */
export interface NbdCounters {
  reads: number;
  writes: number;
  flushes: number;
  trims: number;
  zeroes: number;
  blockStatuses: number;
  failures: number;
  readBytes: number;
  writtenBytes: number;
}

export interface SessionOptions {
  socket: Duplex;
  device: BlockDevice;
  agreed: Agreement;
  pool: BufferPool;
  limits: SessionLimits;
  counters: NbdCounters;
  /** A device failed in a way that is not a BlockDeviceError. */
  onError: (error: unknown) => void;
}

interface PartialWrite {
  buffer: Buffer;
  /** How much of the payload is there. */
  filled: number;
  offset: number;
  length: number;
  fua: boolean;
  cookieHigh: number;
  cookieLow: number;
}

interface RefusedWrite {
  /** Payload that is still to come, and thrown away. */
  left: number;
  refused: Refusal;
  cookieHigh: number;
  cookieLow: number;
}

export class Session {
  readonly #socket: Duplex;
  /** What is received lies in memory that the next read overwrites. */
  readonly #isDirect: boolean;
  readonly #device: BlockDevice;
  readonly #agreed: Agreement;
  readonly #pool: BufferPool;
  readonly #limits: SessionLimits;
  readonly #counters: NbdCounters;
  readonly #onError: (error: unknown) => void;
  readonly #memory: ConnectionMemory;
  readonly #queue: ReplyQueue;
  readonly #replies: Replies;
  readonly #readNow: ((target: Uint8Array, offset: number) => boolean) | undefined;
  readonly #aborted = new AbortController();
  readonly #settled = Promise.withResolvers<void>();

  readonly #request: RequestHeader = emptyRequest();
  /** A header of which only a part has come. */
  readonly #partialHeader = new Uint8Array(requestBytes);
  #partialHeaderBytes = 0;
  #writing: PartialWrite | undefined;
  #refusing: RefusedWrite | undefined;

  #inFlight = 0;
  /** What was read from the socket while too much was in flight. */
  #rest: Uint8Array | undefined;
  #receiving = false;
  #flushScheduled = false;
  readonly #retry = (): void => this.#continue();
  #waitsForRoom = false;
  /** No more requests are taken: DISC came, or the server closes. */
  #draining = false;
  #flushedAtEnd = false;
  #saidGoodbye = false;
  #endReason = 'the client left without saying goodbye';
  #progressAtMs = performance.now();

  constructor({ socket, device, agreed, pool, limits, counters, onError }: SessionOptions) {
    const reader = { target: () => this.#target(), received: (bytes: Uint8Array) => this.#receive(bytes) };
    const direct = socket instanceof Socket && !(socket instanceof TLSSocket) ? readDirectly(socket, reader) : undefined;
    this.#socket = direct ?? socket;
    this.#isDirect = direct !== undefined;
    this.#device = device;
    this.#agreed = agreed;
    this.#pool = pool;
    this.#limits = limits;
    this.#counters = counters;
    this.#onError = onError;
    this.#memory = new ConnectionMemory(pool, () => {
      this.#progressAtMs = performance.now();
      if (this.#rest !== undefined) this.#continue();
    });
    this.#queue = new ReplyQueue(this.#socket, this.#memory);
    this.#replies = new Replies(this.#queue, this.#memory, agreed.structuredReplies);
    this.#readNow = device.readNow?.bind(device);
  }

  /** Serves until the end; resolves when the connection is closed and no call to the device is left. Answers why it ended. */
  async run(): Promise<string> {
    const socket = this.#socket;
    const closed = new Promise<void>((resolve) => socket.once('close', resolve));
    const onEnded = (): void => this.end('the export has ended');
    this.#device.ended.addEventListener('abort', onEnded, { once: true });
    socket.on('error', (error) => this.end(`the connection failed: ${error.message}`));
    if (!this.#isDirect) socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    if (this.#device.ended.aborted) onEnded();
    if (socket.destroyed) this.end(this.#endReason);
    else await closed;
    this.#device.ended.removeEventListener('abort', onEnded);
    this.#close();
    await this.#settled.promise;
    return this.#endReason;
  }

  get heldBytes(): number {
    return this.#memory.heldBytes;
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

  #close(): void {
    if (this.#aborted.signal.aborted) return;
    this.#dropIncoming();
    this.#queue.discard();
    this.#aborted.abort(new BlockDeviceError('ESHUTDOWN', this.#endReason));
    if (this.#inFlight === 0) this.#settled.resolve();
  }

  /** Only when the socket is destroyed: until then it may read into the buffer of a payload. */
  #dropIncoming(): void {
    this.#rest = undefined;
    if (this.#waitsForRoom) this.#pool.stopWaiting(this.#retry);
    if (this.#writing !== undefined) this.#memory.give(this.#writing.buffer);
    this.#writing = undefined;
    this.#refusing = undefined;
  }

  /** When the last answer is ready: one flush, so that nothing answered depends on how the device is closed; then goodbye. */
  #finishDraining(): void {
    if (this.#inFlight > 0 || this.#aborted.signal.aborted || this.#saidGoodbye) return;
    if (!this.#device.readOnly && !this.#flushedAtEnd) {
      this.#flushedAtEnd = true;
      this.#inFlight += 1;
      this.#device
        .flush(this.#aborted.signal)
        .catch(this.#onError)
        .finally(() => this.#finish());
      return;
    }
    this.#saidGoodbye = true;
    this.#queue.flush();
    this.#socket.end();
    // A client that neither reads nor closes is not waited for.
    const timer = setTimeout(() => this.end(this.#endReason), goodbyeMs);
    this.#socket.once('close', () => clearTimeout(timer));
  }

  /** Where the socket is to read to. */
  #target(): Uint8Array {
    const write = this.#writing;
    if (write === undefined || write.length - write.filled < smallestDirectRead) return incoming;
    return write.buffer.subarray(headroomBytes + write.filled, headroomBytes + write.length);
  }

  #receive(chunk: Uint8Array): void {
    this.#progressAtMs = performance.now();
    if (this.#draining || this.#aborted.signal.aborted) return;
    if (this.#rest !== undefined) {
      // The socket was paused too late for this one.
      this.#rest = Buffer.concat([this.#rest, chunk]);
      return;
    }
    this.#receiving = true;
    this.#parse(chunk);
    this.#receiving = false;
    if (!this.#aborted.signal.aborted) this.#queue.flush();
    if (this.#draining) this.#finishDraining();
  }

  #continue(): void {
    const rest = this.#rest;
    this.#waitsForRoom = false;
    if (rest === undefined || this.#receiving || !this.#hasRoom()) return;
    this.#rest = undefined;
    this.#receive(rest);
    if (this.#rest === undefined) this.#socket.resume();
  }

  #hasRoom(): boolean {
    if (this.#inFlight >= this.#limits.maxRequests || this.#memory.heldBytes >= this.#limits.maxHeldBytes) return false;
    if (this.#pool.hasRoom()) return true;
    if (!this.#waitsForRoom) this.#pool.waitForRoom(this.#retry);
    this.#waitsForRoom = true;
    return false;
  }

  #parse(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length && !this.#draining && !this.#aborted.signal.aborted) {
      if (this.#writing !== undefined) at = this.#takePayload(this.#writing, chunk, at);
      else if (this.#refusing !== undefined) at = this.#skipPayload(this.#refusing, chunk, at);
      else if (!this.#hasRoom()) {
        const rest = at === 0 ? chunk : chunk.subarray(at);
        this.#rest = this.#isDirect ? Buffer.from(rest) : rest;
        this.#socket.pause();
        return;
      } else if (this.#partialHeaderBytes === 0 && chunk.length - at >= requestBytes) {
        this.#takeRequest(chunk, at);
        at += requestBytes;
      } else {
        at = this.#takePartialHeader(chunk, at);
      }
    }
  }

  #takePartialHeader(chunk: Uint8Array, at: number): number {
    const end = Math.min(chunk.length, at + requestBytes - this.#partialHeaderBytes);
    this.#partialHeader.set(chunk.subarray(at, end), this.#partialHeaderBytes);
    this.#partialHeaderBytes += end - at;
    if (this.#partialHeaderBytes === requestBytes) {
      this.#partialHeaderBytes = 0;
      this.#takeRequest(this.#partialHeader, 0);
    }
    return end;
  }

  #takePayload(write: PartialWrite, chunk: Uint8Array, at: number): number {
    const end = Math.min(chunk.length, at + write.length - write.filled);
    // What was read to where it belongs is there.
    if (chunk.buffer !== write.buffer.buffer) write.buffer.set(chunk.subarray(at, end), headroomBytes + write.filled);
    write.filled += end - at;
    if (write.filled === write.length) {
      this.#writing = undefined;
      this.#write(write);
    }
    return end;
  }

  #skipPayload(refused: RefusedWrite, chunk: Uint8Array, at: number): number {
    const end = Math.min(chunk.length, at + refused.left);
    refused.left -= end - at;
    if (refused.left === 0) {
      this.#refusing = undefined;
      this.#refuse(refused.cookieHigh, refused.cookieLow, refused.refused);
    }
    return end;
  }

  #takeRequest(bytes: Uint8Array, at: number): void {
    const request = this.#request;
    if (!decodeRequest(bytes, at, request)) {
      this.end('the client broke the protocol: a request does not begin with its magic number');
      return;
    }
    const { command, cookieHigh, cookieLow, length } = request;
    if (command === Command.disconnect) {
      this.#endReason = 'the client disconnected';
      this.#draining = true;
      return;
    }
    const refused = refusal(request, this.#device, this.#agreed);
    if (refused !== undefined) {
      if (command === Command.write && length > 0) this.#refusing = { left: length, refused, cookieHigh, cookieLow };
      else this.#refuse(cookieHigh, cookieLow, refused);
      return;
    }
    this.#execute(request);
  }

  #refuse(cookieHigh: number, cookieLow: number, { code, message }: Refusal): void {
    this.#counters.failures += 1;
    this.#replies.failure(cookieHigh, cookieLow, code, message);
  }

  #execute({ command, flags, cookieHigh, cookieLow, offset, length }: RequestHeader): void {
    const device = this.#device;
    const { signal } = this.#aborted;
    const fua = (flags & CommandFlag.fua) !== 0;
    const counters = this.#counters;
    switch (command) {
      case Command.read:
        counters.reads += 1;
        counters.readBytes += length;
        if (length === 0) this.#replies.success(cookieHigh, cookieLow);
        else this.#read({ cookieHigh, cookieLow, offset, length, whole: (flags & CommandFlag.df) !== 0 });
        return;
      case Command.write: {
        counters.writes += 1;
        counters.writtenBytes += length;
        const buffer = this.#memory.take(length);
        const write = { buffer, filled: 0, offset, length, fua, cookieHigh, cookieLow };
        if (length === 0) this.#write(write);
        else this.#writing = write;
        return;
      }
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
          () => device.blockStatus(offset, length, oneRun ? 1 : maxRuns, signal),
          (runs) => {
            const allowed = allocationRuns(runs, { offset, length }, device.sizeBytes, oneRun);
            this.#replies.blockStatus(cookieHigh, cookieLow, allowed);
          },
        );
      }
    }
  }

  #read(read: ReadReply): void {
    const { cookieHigh, cookieLow, offset, length } = read;
    const replies = this.#replies;
    const readNow = this.#readNow;
    const small = length <= smallReplyBytes;
    let buffer: Buffer | undefined;
    if (readNow !== undefined) {
      try {
        if (small) {
          if (replies.dataNow(read, readNow)) return;
        } else {
          buffer = replies.take(length);
          if (readNow(buffer.subarray(headroomBytes, headroomBytes + length), offset)) {
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
    const target = buffer ?? replies.take(length);
    this.#start(
      cookieHigh,
      cookieLow,
      () => this.#device.read(target.subarray(headroomBytes, headroomBytes + length), offset, this.#aborted.signal),
      () => replies.data(read, target),
      () => this.#memory.give(target),
    );
  }

  #write({ buffer, offset, length, fua, cookieHigh, cookieLow }: PartialWrite): void {
    const data = buffer.subarray(headroomBytes, headroomBytes + length);
    const give = (): void => this.#memory.give(buffer);
    this.#start(
      cookieHigh,
      cookieLow,
      () => (length === 0 ? Promise.resolve() : this.#device.write(data, offset, fua, this.#aborted.signal)),
      () => {
        give();
        this.#replies.success(cookieHigh, cookieLow);
      },
      give,
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
        if (this.#aborted.signal.aborted) {
          drop?.();
        } else {
          try {
            answer(value);
          } catch (error) {
            this.#fail(cookieHigh, cookieLow, error);
          }
        }
        this.#finish();
      },
      (error: unknown) => {
        drop?.();
        if (!this.#aborted.signal.aborted) this.#fail(cookieHigh, cookieLow, error);
        this.#finish();
      },
    );
  }

  #fail(cookieHigh: number, cookieLow: number, error: unknown): void {
    const known = error instanceof BlockDeviceError;
    if (!known) this.#onError(error);
    this.#refuse(cookieHigh, cookieLow, known ? error : { code: 'EIO', message: 'the server could not do it' });
  }

  #finish(): void {
    this.#inFlight -= 1;
    if (this.#aborted.signal.aborted) {
      if (this.#inFlight === 0) this.#settled.resolve();
      return;
    }
    if (this.#draining) this.#finishDraining();
    else if (this.#rest !== undefined) this.#continue();
    if (this.#queue.isEmpty) return;
    // The last one leaves at once; where more are under way, those that end in the same turn leave together.
    if (this.#inFlight === 0) this.#queue.flush();
    else if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      setImmediate(() => {
        this.#flushScheduled = false;
        if (!this.#aborted.signal.aborted) this.#queue.flush();
      });
    }
  }
}
