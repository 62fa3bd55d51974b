// The log of the open generation: records are appended in the order in which they come, by one caller at a time, and indexed once
// they are in the file. Its length always ends with a whole record; a torn one behind it is overwritten by the next.
import { crc32 } from 'node:zlib';
import { closeFile, dataSync, writeAsMuch, writeAsMuchSync } from '../drivers/local/file-calls.ts';
import { OverlayFailedError, OverlayFullError } from './errors.ts';
import type { GenerationName, OpenGeneration } from './generation.ts';
import { GenerationIndex } from './generation-index.ts';
import { writeError } from './log-file.ts';
import { QuickWrites } from './quick-writes.ts';
import {
  type RecordKind,
  logHeaderBytes,
  maxLogBytes,
  recordBytes,
  recordHeaderBytes,
  recordKind,
  recordPrefixBytes,
  sectorBytes,
  writeRecordHeader,
} from './log-format.ts';

/** Larger appends are made in another thread, and those of several entries: more of them come together while they wait for it. */
const maxQuickBytes = 64 * 1024;
/** Of all logs: mostly they lie on one disk. */
const quickWrites = new QuickWrites();

/** What is to become one record. */
export interface LogEntry {
  kind: RecordKind;
  /** In the disk; with the length it covers whole sectors, at most 256 of data. */
  offset: number;
  lengthBytes: number;
  /** The data, each part whole sectors. Not to change until the append has settled. */
  parts: readonly Uint8Array[];
  /** CRC-32 of each sector of the data: made when the entry is, so that it is done while earlier ones are being written. */
  checks: Uint32Array;
}

interface Encoded {
  entry: LogEntry;
  prefix: Buffer;
  /** The record's own check. */
  check: number;
}

export class OpenLog implements OpenGeneration {
  readonly name: GenerationName;
  readonly file: string;
  readonly descriptor: number;
  readonly index = new GenerationIndex();
  readonly #salt: number;
  #chain: number;
  #sequence = 0;
  #lengthBytes = logHeaderBytes;
  #durableBytes = logHeaderBytes;
  #failure: OverlayFailedError | undefined;
  #syncing: { running: Promise<void>; next: Promise<void> | undefined } | undefined;

  /** By createGeneration: a file that holds its header, durable. */
  constructor(name: GenerationName, file: string, descriptor: number, header: { salt: number; check: number }) {
    this.name = name;
    this.file = file;
    this.descriptor = descriptor;
    this.#salt = header.salt;
    this.#chain = header.check;
  }

  get lengthBytes(): number {
    return this.#lengthBytes;
  }

  get durableBytes(): number {
    return this.#durableBytes;
  }

  get indexBytes(): number {
    return this.index.memoryBytes;
  }

  /**
   * Appends entries in their order. @returns how many are in the log, readable through the index; when not all, `error` says why the
   * rest is not. One call at a time.
   */
  async append(entries: readonly LogEntry[]): Promise<{ appended: number; error?: Error }> {
    if (this.#failure !== undefined) return { appended: 0, error: this.#failure };
    const bytes = entries.reduce((sum, entry) => sum + recordBytes(entry), 0);
    if (this.#lengthBytes + bytes > maxLogBytes)
      return { appended: 0, error: new OverlayFullError('the log has reached its greatest length and must be sealed') };
    const records = this.#encode(entries);
    const vectors = records.flatMap(({ prefix, entry }) => [prefix, ...entry.parts]);
    const isQuick = entries.length === 1 && bytes <= maxQuickBytes && quickWrites.areAllowed;
    const { written, error } = isQuick
      ? quickWrites.run(() => writeAsMuchSync(this.descriptor, vectors, this.#lengthBytes))
      : await writeAsMuch(this.descriptor, vectors, this.#lengthBytes);
    const appended = this.#index(records, written);
    if (error === undefined) return { appended };
    const failure = writeError(error);
    if (failure instanceof OverlayFailedError) this.#failure = failure;
    return { appended, error: failure };
  }

  #encode(entries: readonly LogEntry[]): Encoded[] {
    let chain = this.#chain;
    return entries.map((entry, index) => {
      const { checks } = entry;
      const prefix = Buffer.alloc(recordPrefixBytes(checks.length));
      for (let sector = 0; sector < checks.length; sector += 1)
        prefix.writeUInt32LE(checks[sector]!, recordHeaderBytes + 4 * sector);
      const { kind, offset, lengthBytes } = entry;
      const sequence = this.#sequence + index;
      const check = writeRecordHeader(prefix, this.#salt, {
        kind,
        offset,
        lengthBytes,
        sequence,
        chain,
        durableBytes: this.#durableBytes,
      });
      chain = check;
      return { entry, prefix, check };
    });
  }

  /** Takes the records that lie whole in the first `written` bytes into the index. */
  #index(records: readonly Encoded[], written: number): number {
    let appended = 0;
    let left = written;
    for (const { entry, prefix, check } of records) {
      const bytes = recordBytes(entry);
      if (bytes > left) break;
      left -= bytes;
      const first = entry.offset / sectorBytes;
      if (entry.kind === recordKind.data) this.index.setData(first, this.#lengthBytes + prefix.length, entry.checks);
      else this.index.setZeros(first, entry.lengthBytes / sectorBytes, entry.kind === recordKind.trimmed);
      this.#lengthBytes += bytes;
      this.#chain = check;
      this.#sequence += 1;
      appended += 1;
    }
    return appended;
  }

  /** All that was appended before the call is durable when it resolves; calls at one time share one fdatasync. @throws OverlayFailedError */
  sync(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#durableBytes === this.#lengthBytes) return done;
    if (this.#syncing === undefined) return this.#startSync();
    // The one that runs may have begun before the caller's append.
    this.#syncing.next ??= this.#syncing.running.then(() => this.#startSync());
    return this.#syncing.next;
  }

  #startSync(): Promise<void> {
    const running = this.#sync().finally(() => {
      if (this.#syncing?.running === running && this.#syncing.next === undefined) this.#syncing = undefined;
    });
    this.#syncing = { running, next: undefined };
    return running;
  }

  async #sync(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    const length = this.#lengthBytes;
    try {
      await dataSync(this.descriptor);
    } catch (error) {
      // The kernel may have dropped what it could not write, and a second fdatasync would not say so.
      this.#failure = new OverlayFailedError('syncing the log of a disk failed', { cause: error });
      throw this.#failure;
    }
    this.#durableBytes = length;
  }

  /**
   * After the last append: the length to seal the log at, with what failed it, if anything did. Without a failure all of it is synced.
   * With one only what was known to be durable before counts: of the rest nobody knows whether it is on the disk, whatever can be read.
   */
  async conclude(): Promise<{ lengthBytes: number; failure: OverlayFailedError | undefined }> {
    await this.sync().catch(() => undefined);
    // One that was under way when a write failed may have been promised to somebody.
    await this.#syncing?.running.catch(() => undefined);
    return { lengthBytes: this.#durableBytes, failure: this.#failure };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#failure ??= new OverlayFailedError('the log is closed');
    await this.#syncing?.running.catch(() => undefined);
    await closeFile(this.descriptor);
  }
}

const done = Promise.resolve();
/** @param parts whole sectors each. */
export function checksOf(parts: readonly Uint8Array[], lengthBytes: number): Uint32Array {
  const checks = new Uint32Array(lengthBytes / sectorBytes);
  let sector = 0;
  for (const part of parts)
    for (let at = 0; at < part.length; at += sectorBytes) checks[sector++] = crc32(part.subarray(at, at + sectorBytes));
  return checks;
}
