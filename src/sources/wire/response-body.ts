// The body of a response, read on demand by its framing (RFC 9112 sections 6 and 7).
import type { Connection } from './connection.ts';
import type { Framing } from './response-head.ts';
import { malformed, WireError } from './wire-error.ts';

const maxChunkLineBytes = 4096;
const maxTrailerBytes = 65_536;

export class ResponseBody {
  readonly framing: Framing;
  readonly #connection: Connection;
  /** Bytes left: of the body where its length is known, of the current chunk where it is chunked. */
  #leftBytes: number;
  #isFirstChunk = true;
  #isComplete: boolean;

  constructor(connection: Connection, framing: Framing) {
    this.#connection = connection;
    this.framing = framing;
    this.#leftBytes = framing.kind === 'length' ? framing.lengthBytes : 0;
    this.#isComplete = framing.kind === 'length' && framing.lengthBytes === 0;
  }

  /** Whether all of the body was read, so that the connection stands at the next response. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /**
   * Fills `target` as far as the body goes and answers how much that is: less than asked for at the end of the body, or when the
   * connection failed after some bytes: then the next call throws. 0 only at the end. `target` is not empty.
   * @throws WireError broken when the body ends before its announced end, malformed for wrong chunks.
   */
  async read(target: Uint8Array): Promise<number> {
    if (this.#isComplete) return 0;
    using _watch = this.#connection.watchForStall();
    switch (this.framing.kind) {
      case 'length':
        return await this.#readPart(target);
      case 'chunked':
        return await this.#readChunks(target);
      case 'untilClose': {
        const byteCount = await this.#connection.fill(target);
        if (byteCount === 0) this.#isComplete = true;
        return byteCount;
      }
    }
  }

  async #readPart(target: Uint8Array): Promise<number> {
    const byteCount = await this.#connection.fill(target.subarray(0, this.#leftBytes));
    if (byteCount === 0)
      throw new WireError('broken', `the connection ended ${this.#leftBytes} bytes before the end of the body`);
    this.#leftBytes -= byteCount;
    if (this.#leftBytes === 0 && this.framing.kind === 'length') this.#isComplete = true;
    return byteCount;
  }

  async #readChunks(target: Uint8Array): Promise<number> {
    let filled = 0;
    while (filled < target.length) {
      try {
        if (this.#leftBytes === 0) await this.#startChunk();
        if (this.#isComplete) break;
        filled += await this.#readPart(target.subarray(filled));
      } catch (error) {
        // A failure is final for a connection: the next call meets it again.
        if (filled === 0 || !(error instanceof WireError) || error.kind !== 'broken') throw error;
        break;
      }
    }
    return filled;
  }

  async #startChunk(): Promise<void> {
    if (!this.#isFirstChunk && (await this.#line(maxChunkLineBytes)) !== '\r\n')
      throw malformed('a chunk is longer than it says');
    this.#isFirstChunk = false;
    const line = await this.#line(maxChunkLineBytes);
    const size = /^([0-9a-fA-F]{1,13})[ \t]*(?:;[^\r\n]*)?\r\n$/.exec(line);
    if (size === null) throw malformed('a chunk begins without its size');
    this.#leftBytes = Number.parseInt(size[1]!, 16);
    if (this.#leftBytes > 0) return;
    // The last chunk: trailers are read past and ignored.
    let trailerBytes = 0;
    for (let trailer = await this.#line(maxTrailerBytes); trailer !== '\r\n'; trailer = await this.#line(maxTrailerBytes)) {
      trailerBytes += trailer.length;
      if (trailerBytes > maxTrailerBytes) throw malformed('the trailers are too long');
    }
    this.#isComplete = true;
  }

  async #line(limitBytes: number): Promise<string> {
    const line = await this.#connection.readThrough('\r\n', limitBytes);
    if (line === undefined) throw new WireError('broken', 'the connection ended within a chunked body');
    return line;
  }
}
