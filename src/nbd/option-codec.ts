// The messages of the handshake as bytes and back: greeting, client flags, options and their replies (doc/proto.md, "Fixed newstyle
// negotiation", "Option types", "Option reply types"). Pure. What comes in is hostile: every length is checked against what is there
// before it is used. Lengths and sizes are bytes.
import {
  HandshakeFlag,
  Info,
  OptionReply,
  allocationContext,
  allocationContextId,
  greetingMagic,
  maxPayloadBytes,
  maxStringBytes,
  optionMagic,
  optionReplyMagic,
} from './protocol.ts';

export const clientFlagsBytes = 4;
export const optionHeaderBytes = 16;

/** The client broke the protocol where no reply is possible: the connection ends. */
export class ProtocolViolation extends Error {
  override readonly name = 'ProtocolViolation';
}

/** The option's data is not what it must be; the client is told, and may go on. */
export class InvalidOption extends Error {
  override readonly name = 'InvalidOption';
}

/** The server's first word. */
export function greeting(): Buffer {
  const bytes = Buffer.alloc(18);
  bytes.writeBigUInt64BE(greetingMagic, 0);
  bytes.writeBigUInt64BE(optionMagic, 8);
  bytes.writeUInt16BE(HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes, 16);
  return bytes;
}

/** @throws ProtocolViolation for a flag that was not offered. */
export function decodeClientFlags(bytes: Buffer): { fixedNewstyle: boolean; noZeroes: boolean } {
  const flags = bytes.readUInt32BE(0);
  if ((flags & ~(HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes)) !== 0) {
    throw new ProtocolViolation(`client flags 0x${flags.toString(16)} were not offered`);
  }
  return {
    fixedNewstyle: (flags & HandshakeFlag.fixedNewstyle) !== 0,
    noZeroes: (flags & HandshakeFlag.noZeroes) !== 0,
  };
}

/** @throws ProtocolViolation when it does not begin with the magic number. */
export function decodeOptionHeader(bytes: Buffer): { option: number; lengthBytes: number } {
  const magic = bytes.readBigUInt64BE(0);
  if (magic !== optionMagic) throw new ProtocolViolation(`an option begins with 0x${magic.toString(16)}`);
  return { option: bytes.readUInt32BE(8), lengthBytes: bytes.readUInt32BE(12) };
}

/** INFO and GO: the name and which information is asked for. @throws InvalidOption */
export function decodeInfoRequest(data: Buffer): { name: string; infos: ReadonlySet<number> } {
  const cursor = new Cursor(data);
  const name = exportName(cursor.take(cursor.uint32()));
  const infos = new Set<number>();
  for (let left = cursor.uint16(); left > 0; left -= 1) infos.add(cursor.uint16());
  cursor.end();
  return { name, infos };
}

/** LIST_META_CONTEXT and SET_META_CONTEXT. Queries are kept as they came: most are not for us. @throws InvalidOption */
export function decodeContextQueries(data: Buffer): { name: string; queries: string[] } {
  const cursor = new Cursor(data);
  const name = exportName(cursor.take(cursor.uint32()));
  const queries: string[] = [];
  // Each takes four bytes of the data at least: the count itself needs no bound.
  for (let left = cursor.uint32(); left > 0; left -= 1) {
    const query = cursor.take(cursor.uint32());
    if (query.length > maxStringBytes) throw new InvalidOption(`a query has ${query.length} bytes, more than ${maxStringBytes}`);
    queries.push(query.toString('utf8'));
  }
  cursor.end();
  return { name, queries };
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @throws InvalidOption when it is too long, not UTF-8, or has a NUL. */
export function exportName(bytes: Buffer): string {
  if (bytes.length > maxStringBytes) {
    throw new InvalidOption(`the export name has ${bytes.length} bytes, more than ${maxStringBytes}`);
  }
  if (bytes.includes(0)) throw new InvalidOption('the export name has a NUL');
  try {
    return utf8.decode(bytes);
  } catch (error) {
    throw new InvalidOption('the export name is not UTF-8', { cause: error });
  }
}

class Cursor {
  readonly #data: Buffer;
  #at = 0;

  constructor(data: Buffer) {
    this.#data = data;
  }

  take(length: number): Buffer {
    if (length > this.#data.length - this.#at) throw new InvalidOption('the option is shorter than its lengths say');
    this.#at += length;
    return this.#data.subarray(this.#at - length, this.#at);
  }

  uint16(): number {
    return this.take(2).readUInt16BE(0);
  }

  uint32(): number {
    return this.take(4).readUInt32BE(0);
  }

  end(): void {
    if (this.#at !== this.#data.length) throw new InvalidOption('the option is longer than its lengths say');
  }
}

export function optionReply(option: number, reply: number, data: Uint8Array = new Uint8Array(0)): Buffer {
  const bytes = Buffer.alloc(20 + data.length);
  bytes.writeBigUInt64BE(optionReplyMagic, 0);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(reply, 12);
  bytes.writeUInt32BE(data.length, 16);
  bytes.set(data, 20);
  return bytes;
}

/** An error's data is its text for people. */
export const optionError = (option: number, reply: number, message: string): Buffer =>
  optionReply(option, reply, boundedText(message));

/** One export in the answer to LIST. */
export function serverReply(option: number, name: string, description: string): Buffer {
  const nameBytes = Buffer.from(name, 'utf8');
  return optionReply(option, OptionReply.server, Buffer.concat([uint32(nameBytes.length), nameBytes, boundedText(description)]));
}

export const contextReply = (option: number, id: number): Buffer =>
  optionReply(option, OptionReply.metaContext, Buffer.concat([uint32(id), Buffer.from(allocationContext)]));

/** The context that a list shows has no id yet. */
export const listedContextId = 0;
export const selectedContextId = allocationContextId;

export function exportInfoReply(option: number, sizeBytes: number, transmissionFlags: number): Buffer {
  const data = Buffer.alloc(12);
  data.writeUInt16BE(Info.export, 0);
  data.writeBigUInt64BE(BigInt(sizeBytes), 2);
  data.writeUInt16BE(transmissionFlags, 10);
  return optionReply(option, OptionReply.info, data);
}

export function blockSizeReply(option: number, preferredBlockBytes: number): Buffer {
  const data = Buffer.alloc(14);
  data.writeUInt16BE(Info.blockSize, 0);
  data.writeUInt32BE(1, 2);
  data.writeUInt32BE(preferredBlockBytes, 6);
  data.writeUInt32BE(maxPayloadBytes, 10);
  return optionReply(option, OptionReply.info, data);
}

export const textInfoReply = (option: number, info: typeof Info.name | typeof Info.description, text: string): Buffer =>
  optionReply(option, OptionReply.info, Buffer.concat([uint16(info), boundedText(text)]));

/** The answer to EXPORT_NAME, which has no frame: size, flags, and 124 zeros for clients that did not decline them. */
export function exportNameReply(sizeBytes: number, transmissionFlags: number, noZeroes: boolean): Buffer {
  const bytes = Buffer.alloc(noZeroes ? 10 : 10 + 124);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 0);
  bytes.writeUInt16BE(transmissionFlags, 8);
  return bytes;
}

/** UTF-8, cut at a character so that it keeps the protocol's bound. */
export function boundedText(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length <= maxStringBytes) return bytes;
  let end = maxStringBytes;
  while ((bytes[end]! & 0xc0) === 0x80) end -= 1;
  return bytes.subarray(0, end);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
