// A disk that is being written: its base, sealed generations above it, and one open generation that takes the writes. The methods are
// those of nbd's BlockDevice.
import type { Extent } from '../extents.ts';
import type { LayerView } from '../layer-view.ts';
import type { Storage } from '../open.ts';
import type { Generation, OpenGeneration } from './generation.ts';

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
   * stays readable until it is disposed. @throws OverlayFailedError when the sync fails.
   */
  finish(): Promise<{ lengthBytes: number }>;

  // Disposing waits for requests under way and closes the files, without a sync.
}

export function openWritableOverlay(_options: WritableOverlayOptions): WritableOverlay {
  throw new Error('not built yet');
}
