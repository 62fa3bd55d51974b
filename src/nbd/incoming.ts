// The bytes of a client as requests: headers and payloads out of pieces that are cut anywhere. A payload goes into the buffer of its
// write, if it can be straight from the socket; one that is refused is thrown away, so that the next request is found behind it.
import { headroomBytes } from './buffer-pool.ts';
import { type RequestHeader, decodeRequest, emptyRequest, requestBytes } from './request-codec.ts';

/** A write whose payload is under way, or complete. */
export interface IncomingWrite {
  /** Of the pool; the payload lies from headroomBytes on. */
  buffer: Buffer;
  /** How much of the payload is there. */
  filled: number;
  offset: number;
  length: number;
  fua: boolean;
  cookieHigh: number;
  cookieLow: number;
}

interface Skipping {
  left: number;
  done: () => void;
}

export interface RequestHandler {
  /** Whether parsing goes on at all; asked after everything that was handled. */
  isOpen(): boolean;
  /** Whether one more request may be taken in. */
  hasRoom(): boolean;
  /** `header` is only valid during the call. What has a payload is given a place by takePayload, or skipPayload, before it returns. */
  request(header: RequestHeader): void;
  /** The payload is complete. */
  write(write: IncomingWrite): void;
  /** What stands here cannot be a request. */
  broken(): void;
}

/** Where requests come to, of all connections: what is in it is taken out before anything else is read. */
const shared = Buffer.allocUnsafeSlow(64 * 1024);
/** A payload of which at least so much is missing is read to where it belongs. */
const smallestDirectRead = 16 * 1024;

export class Incoming {
  readonly #handler: RequestHandler;
  readonly #header: RequestHeader = emptyRequest();
  /** A header of which only a part has come. */
  readonly #partial = new Uint8Array(requestBytes);
  #partialBytes = 0;
  #writing: IncomingWrite | undefined;
  #skipping: Skipping | undefined;

  constructor(handler: RequestHandler) {
    this.#handler = handler;
  }

  takePayload(write: IncomingWrite): void {
    this.#writing = write;
  }

  /** `done` runs when `length` bytes were thrown away. */
  skipPayload(length: number, done: () => void): void {
    this.#skipping = { left: length, done };
  }

  /** Where the socket may read to next. What it answered is read to until it is asked again. */
  target(): Uint8Array {
    const write = this.#writing;
    if (write === undefined || write.length - write.filled < smallestDirectRead) return shared;
    return write.buffer.subarray(headroomBytes + write.filled, headroomBytes + write.length);
  }

  /** The buffer of a payload that will not be complete; for when nothing is read any more. */
  abandon(): Buffer | undefined {
    const buffer = this.#writing?.buffer;
    this.#writing = undefined;
    this.#skipping = undefined;
    return buffer;
  }

  /** Handles what there is. Answers the part for which there was no room: to be parsed again, before anything else. */
  parse(chunk: Uint8Array): Uint8Array | undefined {
    const handler = this.#handler;
    let at = 0;
    while (at < chunk.length && handler.isOpen()) {
      if (this.#writing !== undefined) at = this.#fill(this.#writing, chunk, at);
      else if (this.#skipping !== undefined) at = this.#skip(this.#skipping, chunk, at);
      else if (!handler.hasRoom()) return chunk.subarray(at);
      else if (this.#partialBytes === 0 && chunk.length - at >= requestBytes) {
        this.#take(chunk, at);
        at += requestBytes;
      } else {
        at = this.#takePart(chunk, at);
      }
    }
    return undefined;
  }

  #fill(write: IncomingWrite, chunk: Uint8Array, at: number): number {
    const end = Math.min(chunk.length, at + write.length - write.filled);
    // What was read to where it belongs is there.
    if (chunk.buffer !== write.buffer.buffer) write.buffer.set(chunk.subarray(at, end), headroomBytes + write.filled);
    write.filled += end - at;
    if (write.filled === write.length) {
      this.#writing = undefined;
      this.#handler.write(write);
    }
    return end;
  }

  #skip(skipping: Skipping, chunk: Uint8Array, at: number): number {
    const end = Math.min(chunk.length, at + skipping.left);
    skipping.left -= end - at;
    if (skipping.left === 0) {
      this.#skipping = undefined;
      skipping.done();
    }
    return end;
  }

  #takePart(chunk: Uint8Array, at: number): number {
    const end = Math.min(chunk.length, at + requestBytes - this.#partialBytes);
    this.#partial.set(chunk.subarray(at, end), this.#partialBytes);
    this.#partialBytes += end - at;
    if (this.#partialBytes === requestBytes) {
      this.#partialBytes = 0;
      this.#take(this.#partial, 0);
    }
    return end;
  }

  #take(bytes: Uint8Array, at: number): void {
    if (decodeRequest(bytes, at, this.#header)) this.#handler.request(this.#header);
    else this.#handler.broken();
  }
}
