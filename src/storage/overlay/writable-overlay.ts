// A disk that is being written: its base, sealed generations above it, and one open generation that takes the writes. The methods are
// those of nbd's BlockDevice.
import type { Extent } from '../extents.ts';
import type { LayerView } from '../layer-view.ts';
import type { Storage } from '../open.ts';
import { AppendQueue } from './append-queue.ts';
import { type Change, type Edges, entriesOf } from './change.ts';
import { OverlayFailedError } from './errors.ts';
import type { Generation, OpenGeneration } from './generation.ts';
import { assertDiskRange, logHeaderBytes, recordKind, sectorBytes } from './log-format.ts';
import { OpenLog } from './open-log.ts';
import { OverlayReader } from './overlay-reader.ts';
import type { Stack } from './read-plan.ts';
import { SectorLocks } from './sector-locks.ts';
import { WrittenCache } from './written-cache.ts';

export interface WritableOverlayOptions {
  /** Whose block cache is used. */
  storage: Storage;
  base: LayerView;
  /** Ascending; the overlay closes them. */
  sealed: readonly Generation[];
  /** Above all of them; the overlay closes it. */
  open: OpenGeneration;
  /** The disk's size: a multiple of 4096 bytes. The base may be shorter: zeros behind it. */
  sizeBytes: number;
}

export interface WritableOverlay extends AsyncDisposable {
  readonly sizeBytes: number;

  /** As LayerView. */
  readNow(target: Uint8Array, offset: number): boolean;
  /** As LayerView. A read that began after a write was answered sees it. */
  read(target: Uint8Array, offset: number, signal?: AbortSignal): Promise<void>;

  /**
   * In the log when it resolves, and durable with `fua`. Any offset and length inside the disk; sectors of 4096 bytes that are written in
   * part are read first. `data` is not used after it has settled. Bounded: writes wait when too much is under way.
   * @throws OverlayFullError; OverlayFailedError; DomainError DATA_LOSS when a sector that is written in part cannot be read;
   *   RangeError; signal.reason when aborted before it was queued.
   */
  write(data: Uint8Array, offset: number, fua: boolean, signal?: AbortSignal): Promise<void>;

  /**
   * Everything that was answered before the call is durable when it resolves. One fdatasync serves all that wait; none when nothing was
   * written. @throws OverlayFailedError
   */
  flush(signal?: AbortSignal): Promise<void>;

  /** The range reads as zeros after it; whole sectors become holes. @throws as write */
  trim(offset: number, length: number, fua: boolean, signal?: AbortSignal): Promise<void>;

  /** As trim when `mayTrim`; else the range stays allocated until the generation is folded. Always fast. @throws as write */
  writeZeroes(
    offset: number,
    length: number,
    options: { fua: boolean; mayTrim: boolean; fast?: boolean },
    signal?: AbortSignal,
  ): Promise<void>;

  /** As LayerView.extents. */
  blockStatus(offset: number, length: number, maxRuns: number, signal?: AbortSignal): Promise<Extent[]>;

  /** Memory that the indexes of all generations take, and the length of all logs, bytes: when they pass a bound, seal and fold. */
  readonly indexBytes: number;
  readonly logBytes: number;
  /** Length and index of the open generation; `openIsEmpty` when nothing was written to it: sealing would be of no use. */
  readonly openBytes: number;
  readonly openIndexBytes: number;
  readonly openIsEmpty: boolean;
  /** The sealed generations, ascending. */
  readonly sealed: readonly Generation[];
  readonly open: OpenGeneration;

  /**
   * Seals the open generation and goes on with `next`: holds writes back, waits for those under way, syncs, calls `commit` with the
   * length to seal at (the transaction OPEN → SEALED), and lets the writes go on into `next`. Everything answered before the call is in
   * the sealed generation, nothing that begins after it. Reads go on all the time. One at a time.
   * When `commit` throws, the open generation stays open, writes go on into it, and the error is thrown on; `next` is the caller's
   * to close. If the outcome of the commit is not known, end the session.
   * @returns the generation that was sealed. @throws OverlayFailedError, and what `commit` throws.
   */
  rotate(next: OpenGeneration, commit: (lengthBytes: number) => Promise<void>): Promise<Generation>;

  /**
   * Swaps the base for one that holds the generations up to and with number `through`, and drops those, at one moment between
   * requests; they are closed when the last request that uses them has ended, which the promise waits for. Files are left to the caller.
   */
  rebase(base: LayerView, through: number): Promise<void>;

  /**
   * Stops taking writes, waits for those under way, syncs, and answers the length to seal the open generation at; the overlay
   * stays readable until it is disposed. When a write or a sync of the log fails, or has failed before, that is the length which was
   * known to be durable (all that a flush acknowledged lies in it), and `failure` says what failed.
   */
  finish(): Promise<{ lengthBytes: number; failure: OverlayFailedError | undefined }>;

  // Disposing waits for requests under way and closes the files, without a sync.
}

/** @throws RangeError when the options do not fit together. */
export function openWritableOverlay(options: WritableOverlayOptions): WritableOverlay {
  const { sealed, open, sizeBytes } = options;
  if (!(open instanceof OpenLog)) throw new RangeError('the open generation is not one that takes writes');
  if (sizeBytes % sectorBytes !== 0) throw new RangeError(`a disk of ${sizeBytes} bytes does not end with a sector`);
  const numbers = [...sealed, open].map(({ name }) => name.generation);
  if (numbers.some((number, index) => index > 0 && number <= numbers[index - 1]!))
    throw new RangeError(`generations ${numbers.join(', ')} do not ascend`);
  return new Overlay(options, open);
}

class Overlay implements WritableOverlay {
  readonly sizeBytes: number;
  readonly #written: WrittenCache;
  readonly #reader: OverlayReader;
  readonly #queue: AppendQueue;
  readonly #locks = new SectorLocks();
  /** Requests that change something and have not ended. */
  #changing = 0;
  #idle: PromiseWithResolvers<void> | undefined;
  #ended: OverlayFailedError | undefined;
  #rotating = false;

  constructor({ storage, base, sealed, sizeBytes }: WritableOverlayOptions, open: OpenLog) {
    this.sizeBytes = sizeBytes;
    this.#written = new WrittenCache(storage.cache.blocks);
    this.#reader = new OverlayReader(sizeBytes, { base, generations: [...sealed, open] }, this.#written);
    this.#queue = new AppendQueue(open, this.#written);
  }

  get open(): OpenLog {
    return this.#queue.log;
  }

  get sealed(): readonly Generation[] {
    return this.#reader.stack.generations.slice(0, -1);
  }

  get indexBytes(): number {
    return this.#reader.stack.generations.reduce((sum, { indexBytes }) => sum + indexBytes, 0);
  }

  get logBytes(): number {
    return this.#reader.stack.generations.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
  }

  get openBytes(): number {
    return this.open.lengthBytes;
  }

  get openIndexBytes(): number {
    return this.open.indexBytes;
  }

  get openIsEmpty(): boolean {
    return this.open.lengthBytes === logHeaderBytes;
  }

  readNow(target: Uint8Array, offset: number): boolean {
    return this.#reader.readNow(target, offset);
  }

  read(target: Uint8Array, offset: number, signal?: AbortSignal): Promise<void> {
    return this.#reader.read(target, offset, signal);
  }

  blockStatus(offset: number, length: number, maxRuns: number, signal?: AbortSignal): Promise<Extent[]> {
    return this.#reader.extents(offset, length, maxRuns, signal);
  }

  write(data: Uint8Array, offset: number, fua: boolean, signal?: AbortSignal): Promise<void> {
    return this.#change({ offset, length: data.length, data, kind: recordKind.data }, fua, signal);
  }

  trim(offset: number, length: number, fua: boolean, signal?: AbortSignal): Promise<void> {
    return this.#change({ offset, length, kind: recordKind.trimmed }, fua, signal);
  }

  writeZeroes(
    offset: number,
    length: number,
    { fua, mayTrim }: { fua: boolean; mayTrim: boolean },
    signal?: AbortSignal,
  ): Promise<void> {
    return this.#change({ offset, length, kind: mayTrim ? recordKind.trimmed : recordKind.zeros }, fua, signal);
  }

  async #change(change: Change, fua: boolean, signal: AbortSignal | undefined): Promise<void> {
    assertDiskRange(this.sizeBytes, change.offset, change.length);
    signal?.throwIfAborted();
    if (this.#ended !== undefined) throw this.#ended;
    this.#changing += 1;
    try {
      if (change.length > 0) await (this.#isSimple(change) ? this.#queue.append(entriesOf(change)) : this.#patch(change, signal));
      if (fua) await this.#queue.log.sync();
    } finally {
      this.#changing -= 1;
      if (this.#changing === 0) this.#idle?.resolve();
    }
  }

  /** Whole sectors, none of which is being patched: the order in which they come is the order in the log. */
  #isSimple({ offset, length }: Change): boolean {
    return offset % sectorBytes === 0 && length % sectorBytes === 0 && !this.#locks.isLocked(offset, length);
  }

  /** Reads what the change leaves of its first and last sector. Nobody else changes these sectors until the result is in the queue. */
  async #patch(change: Change, signal: AbortSignal | undefined): Promise<void> {
    const unlock = await this.#locks.lock(change.offset, change.length);
    let appended: Promise<void>;
    try {
      signal?.throwIfAborted();
      await this.#queue.drained();
      appended = this.#queue.append(entriesOf(change, await this.#edges(change, signal)));
    } finally {
      unlock();
    }
    await appended;
  }

  /** The first and the last sector of a change, where it covers them in part. */
  async #edges({ offset, length }: Change, signal: AbortSignal | undefined): Promise<Edges> {
    const end = offset + length;
    const first = Math.floor(offset / sectorBytes) * sectorBytes;
    const last = Math.floor(end / sectorBytes) * sectorBytes;
    const edges: Edges = { head: undefined, tail: undefined };
    if (offset > first) edges.head = await this.#sector(first, signal);
    if (end > last && (last > first || offset === first)) edges.tail = await this.#sector(last, signal);
    return edges;
  }

  async #sector(offset: number, signal: AbortSignal | undefined): Promise<Buffer> {
    const sector = Buffer.allocUnsafeSlow(sectorBytes);
    await this.#reader.read(sector, offset, signal);
    return sector;
  }

  async flush(): Promise<void> {
    if (this.#ended !== undefined) throw this.#ended;
    await this.#queue.log.sync();
  }

  async rotate(next: OpenGeneration, commit: (lengthBytes: number) => Promise<void>): Promise<Generation> {
    if (this.#ended !== undefined) throw this.#ended;
    if (this.#rotating) throw new Error('an overlay is rotated once at a time');
    if (!(next instanceof OpenLog) || next.name.generation <= this.open.name.generation || next.lengthBytes > logHeaderBytes)
      throw new RangeError('the next generation is not a new one');
    this.#rotating = true;
    const resume = await this.#queue.hold();
    try {
      const sealed = this.open;
      await sealed.sync();
      await commit(sealed.lengthBytes);
      const { base, generations } = this.#reader.stack;
      void this.#reader.replace({ base, generations: [...generations, next] });
      this.#queue.log = next;
      return sealed;
    } finally {
      this.#rotating = false;
      resume();
    }
  }

  async rebase(base: LayerView, through: number): Promise<void> {
    const { generations } = this.#reader.stack;
    const dropped = generations.filter(({ name }) => name.generation <= through);
    if (dropped.length === generations.length) throw new RangeError('the open generation cannot be dropped');
    await this.#reader.replace({ base, generations: generations.slice(dropped.length) });
    for (const generation of dropped) await generation[Symbol.asyncDispose]();
  }

  async finish(): Promise<{ lengthBytes: number; failure: OverlayFailedError | undefined }> {
    this.#ended ??= new OverlayFailedError('the disk takes no more writes');
    await this.#changed();
    return this.open.conclude();
  }

  /** Resolves when no change is under way; none begins any more. */
  async #changed(): Promise<void> {
    if (this.#changing === 0) return;
    this.#idle ??= Promise.withResolvers();
    await this.#idle.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended ??= new OverlayFailedError('the disk is closed');
    await this.#changed();
    const { generations } = this.#reader.stack;
    await this.#reader.replace(closedStack);
    for (const generation of generations) await generation[Symbol.asyncDispose]();
    this.#written[Symbol.dispose]();
  }
}

/** Reads of an overlay that is closed fail. */
const closedStack: Stack = {
  generations: [],
  base: {
    sizeBytes: Number.MAX_SAFE_INTEGER,
    readNow: () => false,
    read: () => Promise.reject(new OverlayFailedError('the disk is closed')),
    extents: () => Promise.reject(new OverlayFailedError('the disk is closed')),
  },
};
