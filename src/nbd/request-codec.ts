// The messages of the transmission phase as bytes and back (doc/proto.md, "Transmission"). This is the hot path: nothing is allocated
// per message; requests are decoded into an object that is used again, replies are written where they will be sent from. A cookie is
// the client's own 64 bits, kept as two halves.
import { ChunkFlag, ChunkType, allocationContextId, chunkMagic, requestMagic, simpleReplyMagic } from './protocol.ts';

export const requestBytes = 28;
export const simpleReplyBytes = 16;
export const chunkHeaderBytes = 20;
/** What stands before the data in a chunk OFFSET_DATA: header and offset. */
export const dataChunkHeaderBytes = chunkHeaderBytes + 8;
export const holeChunkBytes = chunkHeaderBytes + 12;
/** Before the message in a chunk ERROR. */
const errorChunkHeaderBytes = chunkHeaderBytes + 6;

/** A request's header. `offset` is Infinity when it is not a safe integer: outside of every device. */
export interface RequestHeader {
  flags: number;
  command: number;
  cookieHigh: number;
  cookieLow: number;
  offset: number;
  length: number;
}

export const emptyRequest = (): RequestHeader => ({ flags: 0, command: 0, cookieHigh: 0, cookieLow: 0, offset: 0, length: 0 });

/** Decodes the 28 bytes at `at`. False, and nothing decoded: they do not begin with the magic number. */
export function decodeRequest(bytes: Uint8Array, at: number, into: RequestHeader): boolean {
  if (uint32At(bytes, at) !== requestMagic) return false;
  into.flags = (bytes[at + 4]! << 8) | bytes[at + 5]!;
  into.command = (bytes[at + 6]! << 8) | bytes[at + 7]!;
  into.cookieHigh = uint32At(bytes, at + 8);
  into.cookieLow = uint32At(bytes, at + 12);
  const high = uint32At(bytes, at + 16);
  into.offset = high > 0x1f_ffff ? Infinity : high * 0x1_0000_0000 + uint32At(bytes, at + 20);
  into.length = uint32At(bytes, at + 24);
  return true;
}

export function writeSimpleReply(into: Uint8Array, at: number, error: number, cookieHigh: number, cookieLow: number): void {
  putUint32(into, at, simpleReplyMagic);
  putUint32(into, at + 4, error);
  putUint32(into, at + 8, cookieHigh);
  putUint32(into, at + 12, cookieLow);
}

function writeChunkHeader(
  into: Uint8Array,
  at: number,
  done: boolean,
  type: number,
  cookieHigh: number,
  cookieLow: number,
  payloadBytes: number,
): void {
  putUint32(into, at, chunkMagic);
  putUint32(into, at + 4, ((done ? ChunkFlag.done : 0) << 16) | type);
  putUint32(into, at + 8, cookieHigh);
  putUint32(into, at + 12, cookieLow);
  putUint32(into, at + 16, payloadBytes);
}

/** The header of OFFSET_DATA; `lengthBytes` of data follow it. */
export function writeDataChunkHeader(
  into: Uint8Array,
  at: number,
  done: boolean,
  cookieHigh: number,
  cookieLow: number,
  offset: number,
  lengthBytes: number,
): void {
  writeChunkHeader(into, at, done, ChunkType.offsetData, cookieHigh, cookieLow, lengthBytes + 8);
  putUint64(into, at + chunkHeaderBytes, offset);
}

/** The whole of OFFSET_HOLE. */
export function writeHoleChunk(
  into: Uint8Array,
  at: number,
  done: boolean,
  cookieHigh: number,
  cookieLow: number,
  offset: number,
  lengthBytes: number,
): void {
  writeChunkHeader(into, at, done, ChunkType.offsetHole, cookieHigh, cookieLow, 12);
  putUint64(into, at + chunkHeaderBytes, offset);
  putUint32(into, at + chunkHeaderBytes + 8, lengthBytes);
}

/** A success without data, in one chunk. */
export const writeNoneChunk = (into: Uint8Array, at: number, cookieHigh: number, cookieLow: number): void =>
  writeChunkHeader(into, at, true, ChunkType.none, cookieHigh, cookieLow, 0);

/** A failure with a text for people, which is at most 4096 bytes. */
export function errorChunk(error: number, message: Uint8Array, cookieHigh: number, cookieLow: number): Uint8Array {
  const bytes = new Uint8Array(errorChunkHeaderBytes + message.length);
  writeChunkHeader(bytes, 0, true, ChunkType.error, cookieHigh, cookieLow, 6 + message.length);
  putUint32(bytes, chunkHeaderBytes, error);
  bytes[chunkHeaderBytes + 4] = message.length >>> 8;
  bytes[chunkHeaderBytes + 5] = message.length & 0xff;
  bytes.set(message, errorChunkHeaderBytes);
  return bytes;
}

/** What base:allocation says, in one chunk; lengths fit 32 bits and are not zero. */
export function blockStatusChunk(
  runs: readonly { length: number; flags: number }[],
  cookieHigh: number,
  cookieLow: number,
): Uint8Array {
  const payloadBytes = 4 + 8 * runs.length;
  const bytes = new Uint8Array(chunkHeaderBytes + payloadBytes);
  writeChunkHeader(bytes, 0, true, ChunkType.blockStatus, cookieHigh, cookieLow, payloadBytes);
  putUint32(bytes, chunkHeaderBytes, allocationContextId);
  let at = chunkHeaderBytes + 4;
  for (const { length, flags } of runs) {
    putUint32(bytes, at, length);
    putUint32(bytes, at + 4, flags);
    at += 8;
  }
  return bytes;
}

const uint32At = (bytes: Uint8Array, at: number): number =>
  ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;

function putUint32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

function putUint64(bytes: Uint8Array, at: number, value: number): void {
  putUint32(bytes, at, Math.floor(value / 0x1_0000_0000));
  putUint32(bytes, at + 4, (value % 0x1_0000_0000) >>> 0);
}
