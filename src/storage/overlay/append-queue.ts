// What is to be appended to the open generation, in order: whatever comes while one call of the system is under way goes into the next
// one together. It holds no copies: a request's data stays its owner's until the request has settled.
import { type LogEntry, type OpenLog } from './open-log.ts';
import { recordKind } from './log-format.ts';
import type { WrittenCache } from './written-cache.ts';

/** One call writes this much at most, and this many records: then the event loop has its turn. */
const maxBatchBytes = 8 * 1024 * 1024;
const maxBatchEntries = 256;
/** Larger requests do not drive other sectors out of memory. */
const maxCachedBytes = 64 * 1024;

interface Request {
  /** Entries that are not settled. */
  left: number;
  lengthBytes: number;
  error: Error | undefined;
  settled: PromiseWithResolvers<void>;
}

/** Without an entry: settles when all before it are. */
interface Pending {
  entry: LogEntry | undefined;
  request: Request;
}

export class AppendQueue {
  /** Where entries go; changed while the queue is held. */
  log: OpenLog;
  readonly #written: WrittenCache;
  #pending: Pending[] = [];
  #appending: Promise<void> | undefined;
  #held = false;

  constructor(log: OpenLog, written: WrittenCache) {
    this.log = log;
    this.#written = written;
  }

  /** Resolves when all entries are in the log; rejects when they have settled and one is not. @throws OverlayFullError; OverlayFailedError */
  append(entries: readonly LogEntry[]): Promise<void> {
    const lengthBytes = entries.reduce((sum, entry) => sum + entry.lengthBytes, 0);
    const request: Request = { left: entries.length, lengthBytes, error: undefined, settled: Promise.withResolvers() };
    for (const entry of entries) this.#pending.push({ entry, request });
    this.#go();
    return request.settled.promise;
  }

  /** Resolves when what was queued before is in the log, or failed. */
  async drained(): Promise<void> {
    if (this.#pending.length === 0 && this.#appending === undefined) return;
    const request: Request = { left: 1, lengthBytes: 0, error: undefined, settled: Promise.withResolvers() };
    this.#pending.push({ entry: undefined, request });
    this.#go();
    await request.settled.promise;
  }

  /** Waits for what is being appended, and holds the rest back until the answer is called. */
  async hold(): Promise<() => void> {
    this.#held = true;
    await this.#appending;
    return () => {
      this.#held = false;
      this.#go();
    };
  }

  #go(): void {
    if (this.#appending !== undefined || this.#held || this.#pending.length === 0) return;
    // After the caller's turn, so that all requests of one moment go together.
    this.#appending = Promise.resolve()
      .then(() => this.#appendAll())
      .finally(() => {
        this.#appending = undefined;
        this.#go();
      });
  }

  async #appendAll(): Promise<void> {
    while (this.#pending.length > 0 && !this.#held) {
      const batch = this.#takeBatch();
      const entries = batch.flatMap(({ entry }) => entry ?? []);
      const { appended, error } = entries.length === 0 ? { appended: 0 } : await this.#append(entries);
      let index = 0;
      for (const { entry, request } of batch) {
        if (entry !== undefined && index++ >= appended) request.error ??= error;
        else if (entry !== undefined) this.#remember(entry, request.lengthBytes <= maxCachedBytes);
        settle(request);
      }
    }
  }

  async #append(entries: readonly LogEntry[]): Promise<{ appended: number; error?: Error }> {
    try {
      return await this.log.append(entries);
    } catch (error) {
      // A bug of ours; no request may hang for it.
      return { appended: 0, error: error as Error };
    }
  }

  #takeBatch(): Pending[] {
    let bytes = 0;
    let count = 0;
    for (const { entry } of this.#pending) {
      if (count > 0 && (count === maxBatchEntries || bytes + (entry?.parts.length ? entry.lengthBytes : 0) > maxBatchBytes))
        break;
      bytes += entry?.parts.length ? entry.lengthBytes : 0;
      count += 1;
    }
    if (count === this.#pending.length) {
      const all = this.#pending;
      this.#pending = [];
      return all;
    }
    return this.#pending.splice(0, count);
  }

  #remember(entry: LogEntry, makesRoom: boolean): void {
    if (entry.kind !== recordKind.data) return this.#written.forget(entry.offset, entry.lengthBytes);
    let at = entry.offset;
    for (const part of entry.parts) {
      this.#written.set(at, part, makesRoom);
      at += part.length;
    }
  }
}

function settle(request: Request): void {
  request.left -= 1;
  if (request.left > 0) return;
  if (request.error === undefined) request.settled.resolve();
  else request.settled.reject(request.error);
}
