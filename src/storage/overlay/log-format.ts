// The log of a generation, version 1. Numbers are little-endian. What it must do: a torn or flipped byte is found before anything
// behind it is believed, old bytes behind a torn end are never taken for records, and a sector is read and verified on its own.
//
//   file header                                      record
//   0     8  "obrzovly"                              0     4  "orec"
//   8     2  version, 1                              4     4  salt of the file header
//   10    2  flags, 0                                8     1  kind: 1 data, 2 zeros, 3 trimmed
//   12    4  salt, random                            9     7  0
//   16    8  generation                              16    8  sequence: 0, 1, 2 …
//   24    8  the disk's size when it was made        24    8  offset in the disk, bytes
//   32    8  when, milliseconds since 1970           32    8  length, bytes
//   40    1  length of the disk's id                 40    8  bytes of the log that were synced when it was written
//   41   64  the disk's id, ASCII                    48    4  check of the record before; of the file header for the first
//   105   …  0                                       52    4  CRC-32 of the table below; 0 without one
//   4092  4  check: CRC-32 of bytes 0 to 4091        56    4  0
//                                                    60    4  check: CRC-32 of bytes 0 to 59
//                                                    64    …  data: CRC-32 of each sector (4 n), 0 up to a multiple of 16, n sectors
//
// Offsets and lengths are multiples of a sector, 4096 bytes. A record of data holds 1 to 256 sectors. Records follow one another without
// gaps, so all begin at multiples of 16. The chain of checks ties every record to all before it.
import { crc32 } from 'node:zlib';
import { assertRange } from '../../platform/byte-source.ts';
import { maxLayerChunks, chunkBytes } from '../sizes.ts';

export const sectorBytes = 4096;
export const logHeaderBytes = 4096;
export const recordHeaderBytes = 64;
export const maxRecordSectors = 256;
/** Positions in a log are kept as 32 bits of 16 bytes each. */
export const positionUnit = 16;
export const maxLogBytes = 2 ** 32 * positionUnit;

export const recordKind = { data: 1, zeros: 2, trimmed: 3 } as const;
export type RecordKind = (typeof recordKind)[keyof typeof recordKind];

const fileMagic = Buffer.from('obrzovly', 'latin1');
const version = 1;
const checkOffset = logHeaderBytes - 4;
const idOffset = 41;
const maxIdBytes = 64;
const recordMagic = 0x63_65_72_6f; // "orec"
const largestOffset = maxLayerChunks * chunkBytes;

export interface LogHeader {
  diskId: string;
  generation: number;
  sizeBytes: number;
  createdAtMs: number;
  salt: number;
  /** What the first record's chain begins with. */
  check: number;
}

/** @throws RangeError for an id or a number that does not fit. */
export function encodeLogHeader(fields: Omit<LogHeader, 'check'>): Buffer {
  const { diskId } = fields;
  if (!/^[\x21-\x7e]{1,64}$/.test(diskId)) throw new RangeError(`not the id of a disk: ${JSON.stringify(diskId.slice(0, 80))}`);
  const bytes = Buffer.alloc(logHeaderBytes);
  fileMagic.copy(bytes);
  bytes.writeUInt16LE(version, 8);
  bytes.writeUInt32LE(fields.salt, 12);
  bytes.writeBigUInt64LE(BigInt(fields.generation), 16);
  bytes.writeBigUInt64LE(BigInt(fields.sizeBytes), 24);
  bytes.writeBigUInt64LE(BigInt(fields.createdAtMs), 32);
  bytes[40] = diskId.length;
  bytes.write(diskId, idOffset, 'latin1');
  bytes.writeUInt32LE(crc32(bytes.subarray(0, checkOffset)), checkOffset);
  return bytes;
}

/** Undefined for bytes that are no whole header. @throws Error for a version that this release does not know. */
export function parseLogHeader(bytes: Buffer): LogHeader | undefined {
  if (bytes.length !== logHeaderBytes || !bytes.subarray(0, 8).equals(fileMagic)) return undefined;
  const check = bytes.readUInt32LE(checkOffset);
  if (crc32(bytes.subarray(0, checkOffset)) !== check) return undefined;
  if (bytes.readUInt16LE(8) !== version || bytes.readUInt16LE(10) !== 0)
    throw new Error('a log of writes is of a version that this release does not know');
  const [generation, sizeBytes, createdAtMs] = [16, 24, 32].map((offset) => readNumber(bytes, offset));
  const idBytes = bytes[40]!;
  if (generation === undefined || sizeBytes === undefined || createdAtMs === undefined || idBytes > maxIdBytes) return undefined;
  const diskId = bytes.toString('latin1', idOffset, idOffset + idBytes);
  return { diskId, generation, sizeBytes, createdAtMs, salt: bytes.readUInt32LE(12), check };
}

export interface RecordHeader {
  kind: RecordKind;
  sequence: number;
  /** In the disk. */
  offset: number;
  lengthBytes: number;
  /** Bytes of the log that were synced when the record was written. */
  durableBytes: number;
  /** The check of the record before. */
  chain: number;
  tableCheck: number;
  check: number;
}

/** Bytes of a record's header with the table of its checksums, padded. */
export const recordPrefixBytes = (sectors: number): number =>
  Math.ceil((recordHeaderBytes + 4 * sectors) / positionUnit) * positionUnit;

export const sectorsOf = ({ kind, lengthBytes }: Pick<RecordHeader, 'kind' | 'lengthBytes'>): number =>
  kind === recordKind.data ? lengthBytes / sectorBytes : 0;

export const recordBytes = (record: Pick<RecordHeader, 'kind' | 'lengthBytes'>): number => {
  const sectors = sectorsOf(record);
  return recordPrefixBytes(sectors) + sectors * sectorBytes;
};

/**
 * Writes the header in front of a table that stands already in `prefix` (recordPrefixBytes, zeros where nothing is set).
 * @returns the record's check.
 */
export function writeRecordHeader(prefix: Buffer, salt: number, record: Omit<RecordHeader, 'tableCheck' | 'check'>): number {
  prefix.writeUInt32LE(recordMagic, 0);
  prefix.writeUInt32LE(salt, 4);
  prefix[8] = record.kind;
  writeNumber(prefix, record.sequence, 16);
  writeNumber(prefix, record.offset, 24);
  writeNumber(prefix, record.lengthBytes, 32);
  writeNumber(prefix, record.durableBytes, 40);
  prefix.writeUInt32LE(record.chain, 48);
  const sectors = sectorsOf(record);
  if (sectors > 0) prefix.writeUInt32LE(crc32(prefix.subarray(recordHeaderBytes, recordHeaderBytes + 4 * sectors)), 52);
  const check = crc32(prefix.subarray(0, 60));
  prefix.writeUInt32LE(check, 60);
  return check;
}

/** Undefined for bytes that are no whole header of a record of the log with this salt; its table is not looked at. */
export function parseRecordHeader(bytes: Buffer, salt: number): RecordHeader | undefined {
  if (bytes.length < recordHeaderBytes || bytes.readUInt32LE(0) !== recordMagic || bytes.readUInt32LE(4) !== salt)
    return undefined;
  const check = bytes.readUInt32LE(60);
  if (crc32(bytes.subarray(0, 60)) !== check) return undefined;
  const kind = bytes[8];
  const [sequence, offset, lengthBytes, durableBytes] = [16, 24, 32, 40].map((at) => readNumber(bytes, at));
  if (sequence === undefined || offset === undefined || lengthBytes === undefined || durableBytes === undefined) return undefined;
  if (kind !== recordKind.data && kind !== recordKind.zeros && kind !== recordKind.trimmed) return undefined;
  const fits = offset % sectorBytes === 0 && lengthBytes % sectorBytes === 0 && lengthBytes > 0;
  if (!fits || offset + lengthBytes > largestOffset) return undefined;
  if (kind === recordKind.data && lengthBytes > maxRecordSectors * sectorBytes) return undefined;
  return {
    kind,
    sequence,
    offset,
    lengthBytes,
    durableBytes,
    chain: bytes.readUInt32LE(48),
    tableCheck: bytes.readUInt32LE(52),
    check,
  };
}

/** The first eight bytes of every record of a log, to look for what stands behind a damaged one. */
export function recordMark(salt: number): Buffer {
  const mark = Buffer.alloc(8);
  mark.writeUInt32LE(recordMagic, 0);
  mark.writeUInt32LE(salt, 4);
  return mark;
}

/** @throws RangeError when the range is outside of the disk. */
export function assertDiskRange(sizeBytes: number, offset: number, length: number): void {
  if (!Number.isSafeInteger(length)) throw new RangeError(`not a length: ${length}`);
  assertRange(sizeBytes, offset, length);
}

function writeNumber(bytes: Buffer, value: number, offset: number): void {
  bytes.writeUInt32LE(value % 2 ** 32, offset);
  bytes.writeUInt32LE(Math.floor(value / 2 ** 32), offset + 4);
}

/** Undefined for what no field may hold. */
function readNumber(bytes: Buffer, offset: number): number | undefined {
  const high = bytes.readUInt32LE(offset + 4);
  return high < 2 ** 21 ? high * 2 ** 32 + bytes.readUInt32LE(offset) : undefined;
}
