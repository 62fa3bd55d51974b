// Reads the records of a log from its start and puts them into an index.
//
// A sealed log has a length that a transaction wrote down after a sync: its headers are read, and anything wrong in them before that
// length is damage. The log of a dead writer ends somewhere: at the first record that is not whole or does not follow. That record was
// never acknowledged as durable, unless one behind it says that bytes beyond it had been synced: then it is damage. Damaged payload
// costs its sectors, which are verified when they are read; a damaged header costs the log.
import { crc32 } from 'node:zlib';
import { readVectorsFully } from '../drivers/local/file-calls.ts';
import { LogDamagedError } from './errors.ts';
import type { GenerationName } from './generation.ts';
import { GenerationIndex } from './generation-index.ts';
import { readError } from './log-file.ts';
import {
  type LogHeader,
  type RecordHeader,
  logHeaderBytes,
  parseRecordHeader,
  recordBytes,
  recordHeaderBytes,
  recordKind,
  recordMark,
  recordPrefixBytes,
  sectorBytes,
  sectorsOf,
} from './log-format.ts';

/** What is read at once: much when records are small, little when their payload is jumped over. */
const windowBytes = 2 * 1024 * 1024;
const jumpedWindowBytes = 64 * 1024;

export interface ReplayOptions {
  name: GenerationName;
  descriptor: number;
  header: LogHeader;
  /** The file's size, or the length that was sealed. */
  lengthBytes: number;
  signal?: AbortSignal | undefined;
}

/** @throws LogDamagedError unless records fill the log up to its length. */
export async function replaySealed(options: ReplayOptions): Promise<GenerationIndex> {
  const index = new GenerationIndex();
  const { end } = await replay(options, index, Infinity);
  if (end !== options.lengthBytes) throw new LogDamagedError(options.name, `its record at ${end} is not whole`);
  return index;
}

export interface Recovered {
  index: GenerationIndex;
  lengthBytes: number;
  /** Of that, what a later record says to have been synced. */
  provenBytes: number;
}

/**
 * Finds the end of a log that nobody sealed. @param verifyFrom payload before this position is not looked at.
 * @throws LogDamagedError when a header is not whole that was durable.
 */
export async function replayUnsealed(options: ReplayOptions, verifyFrom = 0): Promise<Recovered> {
  const index = new GenerationIndex();
  const { end, torn, provenBytes } = await replay(options, index, verifyFrom);
  if (torn !== undefined) return { index: await replaySealed({ ...options, lengthBytes: torn }), lengthBytes: torn, provenBytes };
  const durable = end === options.lengthBytes ? 0 : await durableBeyond(options, end);
  if (durable > end) throw new LogDamagedError(options.name, `its record at ${end} is not whole, and was synced`);
  return { index, lengthBytes: end, provenBytes };
}

/**
 * Indexes records that follow one another as far as they go. `end` is where they stop; `torn` where the first one begins whose payload
 * does not match and was not proven to have been synced.
 */
async function replay(
  options: ReplayOptions,
  index: GenerationIndex,
  verifyFrom: number,
): Promise<{ end: number; torn: number | undefined; provenBytes: number }> {
  const file = new Window(options);
  let suspects: { at: number; end: number }[] = [];
  let position = logHeaderBytes;
  let provenBytes = logHeaderBytes;
  let chain = options.header.check;
  for (let sequence = 0; ; sequence += 1) {
    options.signal?.throwIfAborted();
    const head = await file.bytes(position, recordHeaderBytes);
    const record = head && parseRecordHeader(head, options.header.salt);
    const follows = record !== undefined && record.sequence === sequence && record.chain === chain;
    const end = follows ? position + recordBytes(record) : Infinity;
    if (!follows || end > options.lengthBytes) break;
    provenBytes = Math.max(provenBytes, record.durableBytes);
    if (suspects.length > 0) suspects = suspects.filter((suspect) => suspect.end > record.durableBytes);
    const first = record.offset / sectorBytes;
    if (record.kind === recordKind.data) {
      const checks = await checksAt(file, position, record);
      if (checks === undefined) break;
      const payload = position + recordPrefixBytes(checks.length);
      if (position >= verifyFrom && !(await isWhole(file, payload, checks))) suspects.push({ at: position, end });
      index.setData(first, payload, checks);
    } else index.setZeros(first, record.lengthBytes / sectorBytes, record.kind === recordKind.trimmed);
    chain = record.check;
    position = end;
  }
  return { end: position, torn: suspects[0]?.at, provenBytes };
}

/** The table of a record of data; undefined when it does not match. */
async function checksAt(file: Window, position: number, record: RecordHeader): Promise<Uint32Array | undefined> {
  const sectors = sectorsOf(record);
  const table = await file.bytes(position + recordHeaderBytes, sectors * 4);
  if (table === undefined || crc32(table) !== record.tableCheck) return undefined;
  const checks = new Uint32Array(sectors);
  for (let sector = 0; sector < sectors; sector += 1) checks[sector] = table.readUInt32LE(sector * 4);
  return checks;
}

async function isWhole(file: Window, payload: number, checks: Uint32Array): Promise<boolean> {
  const data = await file.bytes(payload, checks.length * sectorBytes);
  if (data === undefined) return false;
  for (let sector = 0; sector < checks.length; sector += 1)
    if (crc32(data.subarray(sector * sectorBytes, (sector + 1) * sectorBytes)) !== checks[sector]) return false;
  return true;
}

/** The greatest number of synced bytes that any whole header behind `from` tells of. */
async function durableBeyond(options: ReplayOptions, from: number): Promise<number> {
  const file = new Window(options);
  const mark = recordMark(options.header.salt);
  let durable = 0;
  for (let position = from + 1; position < options.lengthBytes;) {
    options.signal?.throwIfAborted();
    const bytes = await file.bytes(position, Math.min(windowBytes, options.lengthBytes - position));
    if (bytes === undefined) break;
    const found = bytes.indexOf(mark);
    if (found === -1) {
      position += Math.max(1, bytes.length - mark.length + 1);
      continue;
    }
    const head = await file.bytes(position + found, recordHeaderBytes);
    const record = head && parseRecordHeader(head, options.header.salt);
    if (record !== undefined) durable = Math.max(durable, record.durableBytes);
    position += found + 1;
  }
  return durable;
}

/** Reads the file in large pieces, whatever is asked for. */
class Window {
  readonly #options: ReplayOptions;
  readonly #buffer = Buffer.allocUnsafeSlow(windowBytes);
  #start = 0;
  #length = 0;

  constructor(options: ReplayOptions) {
    this.#options = options;
  }

  /** Valid until the next call; at most 2 MiB. Undefined when the log is shorter. */
  async bytes(position: number, length: number): Promise<Buffer | undefined> {
    if (position + length > this.#options.lengthBytes) return undefined;
    if (position < this.#start || position + length > this.#start + this.#length) await this.#load(position, length);
    const at = position - this.#start;
    return at + length > this.#length ? undefined : this.#buffer.subarray(at, at + length);
  }

  async #load(position: number, length: number): Promise<void> {
    const jumped = position > this.#start + this.#length && length <= jumpedWindowBytes;
    const wanted = Math.min(jumped ? jumpedWindowBytes : windowBytes, this.#options.lengthBytes - position);
    try {
      this.#length = await readVectorsFully(this.#options.descriptor, [this.#buffer.subarray(0, wanted)], position);
      this.#start = position;
    } catch (error) {
      throw readError(error);
    }
  }
}
