// The answers of the transmission phase, in the form that was agreed on: one simple reply, or chunks of a structured one. It decides
// where the bytes of a read go so that they are copied as rarely as possible, and leaves zeros out where the client takes holes.
import type { BlockDeviceErrorCode, BlockRun } from './block-device.ts';
import { type ConnectionMemory, headroomBytes } from './buffer-pool.ts';
import { boundedText } from './option-codec.ts';
import { AllocationFlag, ErrorNumber } from './protocol.ts';
import { type ReplyQueue, smallReplyBytes } from './reply-queue.ts';
import {
  blockStatusChunk,
  chunkHeaderBytes,
  dataChunkHeaderBytes,
  errorChunk,
  holeChunkBytes,
  simpleReplyBytes,
  writeDataChunkHeader,
  writeHoleChunk,
  writeNoneChunk,
  writeSimpleReply,
} from './request-codec.ts';
import { isZero, zeroRuns } from './zero-runs.ts';

/** Smaller reads are sent as they are: looking for zeros costs more than sending them. */
const smallestHoleBytes = 512;

/** Which request an answer is for. `whole`: its data must come in one chunk, zeros too (NBD_CMD_FLAG_DF). */
export interface ReadReply {
  cookieHigh: number;
  cookieLow: number;
  offset: number;
  length: number;
  whole: boolean;
}

export class Replies {
  readonly #queue: ReplyQueue;
  readonly #memory: ConnectionMemory;
  readonly #structured: boolean;
  readonly #dataHeaderBytes: number;

  constructor(queue: ReplyQueue, memory: ConnectionMemory, structured: boolean) {
    this.#queue = queue;
    this.#memory = memory;
    this.#structured = structured;
    this.#dataHeaderBytes = structured ? dataChunkHeaderBytes : simpleReplyBytes;
  }

  /** Success without data; of a read only when it asked for nothing. */
  success(cookieHigh: number, cookieLow: number): void {
    if (this.#structured) {
      const at = this.#queue.reserve(chunkHeaderBytes);
      writeNoneChunk(this.#queue.gather, at, cookieHigh, cookieLow);
      this.#queue.commit(chunkHeaderBytes);
    } else {
      this.#simple(0, cookieHigh, cookieLow);
    }
  }

  failure(cookieHigh: number, cookieLow: number, code: BlockDeviceErrorCode, message: string): void {
    if (this.#structured) this.#small(errorChunk(ErrorNumber[code], boundedText(message), cookieHigh, cookieLow));
    else this.#simple(ErrorNumber[code], cookieHigh, cookieLow);
  }

  /** `runs` are as the protocol wants them: see allocationRuns in block-status.ts. */
  blockStatus(cookieHigh: number, cookieLow: number, runs: readonly BlockRun[]): void {
    const flagged = runs.map(({ length, hole, zero }) => ({
      length,
      flags: (hole ? AllocationFlag.hole : 0) | (zero ? AllocationFlag.zero : 0),
    }));
    const chunk = blockStatusChunk(flagged, cookieHigh, cookieLow);
    if (chunk.length <= smallReplyBytes) this.#small(chunk);
    else {
      // Of the connection's memory, where it counts: a client that takes no answers must not pile them up.
      const buffer = this.#memory.take(chunk.length);
      buffer.set(chunk);
      this.#queue.push(buffer.subarray(0, chunk.length), buffer);
    }
  }

  /** Answers a small read by what `fill` puts into the place of its data. False: `fill` did, and nothing is answered. */
  dataNow(read: ReadReply, fill: (target: Uint8Array, offset: number) => boolean): boolean {
    const { offset, length } = read;
    const header = this.#dataHeaderBytes;
    const at = this.#queue.reserve(header + length);
    const gather = this.#queue.gather;
    const start = at + header;
    if (!fill(gather.subarray(start, start + length), offset)) return false;
    this.#commitData(read, gather, at);
    return true;
  }

  /** Answers by a buffer of the connection's memory, whose data lie from headroomBytes on, and becomes its owner. */
  data(read: ReadReply, buffer: Buffer): void {
    const { cookieHigh, cookieLow, offset, length } = read;
    const end = headroomBytes + length;
    if (length <= smallReplyBytes) {
      const at = this.#queue.reserve(this.#dataHeaderBytes + length);
      buffer.copy(this.#queue.gather, at + this.#dataHeaderBytes, headroomBytes, end);
      this.#commitData(read, this.#queue.gather, at);
      // Last: whoever waits for memory goes on within the call, and may flush the queue.
      this.#memory.give(buffer);
      return;
    }
    const start = headroomBytes - this.#dataHeaderBytes;
    if (!this.#structured) {
      writeSimpleReply(buffer, start, 0, cookieHigh, cookieLow);
      this.#queue.push(buffer.subarray(start, end), buffer);
    } else if (read.whole) {
      writeDataChunkHeader(buffer, start, true, cookieHigh, cookieLow, offset, length);
      this.#queue.push(buffer.subarray(start, end), buffer);
    } else {
      this.#pushRuns(read, buffer);
    }
  }

  /** The data lie behind the header's place at `at`. */
  #commitData({ cookieHigh, cookieLow, offset, length, whole }: ReadReply, gather: Buffer, at: number): void {
    if (!this.#structured) {
      writeSimpleReply(gather, at, 0, cookieHigh, cookieLow);
      this.#queue.commit(simpleReplyBytes + length);
      return;
    }
    const start = at + dataChunkHeaderBytes;
    if (!whole && length >= smallestHoleBytes && isZero(gather, start, start + length)) {
      writeHoleChunk(gather, at, true, cookieHigh, cookieLow, offset, length);
      this.#queue.commit(holeChunkBytes);
    } else {
      writeDataChunkHeader(gather, at, true, cookieHigh, cookieLow, offset, length);
      this.#queue.commit(dataChunkHeaderBytes + length);
    }
  }

  /** Headers are written over the zeros before the data, or into the headroom: each piece is one stretch of the buffer. */
  #pushRuns({ cookieHigh, cookieLow, offset, length }: ReadReply, buffer: Buffer): void {
    const end = headroomBytes + length;
    const offsetAt = offset - headroomBytes;
    const pieces: Uint8Array[] = [];
    let holeAt = Infinity;
    const runs = zeroRuns(buffer, headroomBytes, end);
    const lastHole = runs.at(-1)!.zero ? runs.pop() : undefined;
    for (const { start, end: runEnd, zero } of runs) {
      if (zero) {
        holeAt = runEnd - dataChunkHeaderBytes - holeChunkBytes;
        writeHoleChunk(buffer, holeAt, false, cookieHigh, cookieLow, offsetAt + start, runEnd - start);
      } else {
        const dataAt = start - dataChunkHeaderBytes;
        writeDataChunkHeader(buffer, dataAt, runEnd === end, cookieHigh, cookieLow, offsetAt + start, runEnd - start);
        pieces.push(buffer.subarray(Math.min(holeAt, dataAt), runEnd));
        holeAt = Infinity;
      }
    }
    for (const [index, piece] of pieces.entries()) this.#queue.push(piece, index === pieces.length - 1 ? buffer : undefined);
    if (pieces.length === 0) this.#memory.give(buffer);
    if (lastHole !== undefined) {
      this.#hole(cookieHigh, cookieLow, offsetAt + lastHole.start, lastHole.end - lastHole.start);
    }
  }

  #hole(cookieHigh: number, cookieLow: number, offset: number, length: number): void {
    const at = this.#queue.reserve(holeChunkBytes);
    writeHoleChunk(this.#queue.gather, at, true, cookieHigh, cookieLow, offset, length);
    this.#queue.commit(holeChunkBytes);
  }

  #simple(error: number, cookieHigh: number, cookieLow: number): void {
    const at = this.#queue.reserve(simpleReplyBytes);
    writeSimpleReply(this.#queue.gather, at, error, cookieHigh, cookieLow);
    this.#queue.commit(simpleReplyBytes);
  }

  #small(bytes: Uint8Array): void {
    const at = this.#queue.reserve(bytes.length);
    this.#queue.gather.set(bytes, at);
    this.#queue.commit(bytes.length);
  }
}
