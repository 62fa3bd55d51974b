// A disk that is open for writing, as a device: which requests are let in, and what may be answered. How what was written gets into
// generations, and from there into the base, is writer-generations.ts. What is kept here:
//
// - Nothing is answered without a lease: it is looked at before every request, and after every sync that a client was promised.
// - A change waits until its generation has begun, while one is being sealed, and while too much is not committed; reads never wait.
// - A log that failed ends the session; one whose disk is full does not.
import type { BlockDevice, BlockRun, WriteZeroesOptions } from '../nbd/block-device.ts';
import type { Log } from '../platform/log.ts';
import { untilAborted } from '../platform/until-aborted.ts';
import { OverlayFailedError, OverlayFullError } from '../storage/overlay/errors.ts';
import type { WritableOverlay } from '../storage/overlay/writable-overlay.ts';
import { asDeviceError } from './device-errors.ts';
import type { IndexBudget } from './index-budget.ts';
import { preferredBlockBytes } from './layer-reader.ts';
import type { Lease } from './lease.ts';
import { WriteRoom, type WriterBounds } from './write-room.ts';
import type { WriterGenerations } from './writer-generations.ts';

export interface DiskWriterOptions {
  bounds: WriterBounds;
  budget: IndexBudget;
  log: Log;
}

export class DiskWriter implements BlockDevice {
  readonly sizeBytes: number;
  readonly readOnly = false;
  readonly preferredBlockBytes = preferredBlockBytes;
  readonly multiConn = false;
  readonly ended: AbortSignal;
  readonly #generations: WriterGenerations;
  readonly #overlay: WritableOverlay;
  readonly #lease: Lease;
  readonly #bounds: WriterBounds;
  readonly #room: WriteRoom;

  /** Disposing of it is leaving, for the generations too. */
  constructor(generations: WriterGenerations, { bounds, budget, log }: DiskWriterOptions) {
    this.#generations = generations;
    this.#overlay = generations.overlay;
    this.#lease = generations.lease;
    this.#bounds = bounds;
    this.#room = new WriteRoom(generations, bounds, budget, log);
    this.ended = generations.lease.ended;
    this.sizeBytes = generations.overlay.sizeBytes;
  }

  readNow(target: Uint8Array, offset: number): boolean {
    return this.#lease.isHeld && this.#overlay.readNow(target, offset);
  }

  async read(target: Uint8Array, offset: number, signal: AbortSignal): Promise<void> {
    this.#lease.assertHeld();
    await this.#answer(this.#overlay.read(target, offset, signal));
  }

  async blockStatus(offset: number, length: number, maxRuns: number, signal: AbortSignal): Promise<BlockRun[]> {
    this.#lease.assertHeld();
    return this.#answer(this.#overlay.blockStatus(offset, length, maxRuns, signal));
  }

  write(data: Uint8Array, offset: number, fua: boolean, signal: AbortSignal): Promise<void> {
    return this.#change(signal, fua, () => this.#overlay.write(data, offset, fua, signal));
  }

  trim(offset: number, length: number, fua: boolean, signal: AbortSignal): Promise<void> {
    return this.#change(signal, fua, () => this.#overlay.trim(offset, length, fua, signal));
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions, signal: AbortSignal): Promise<void> {
    return this.#change(signal, options.fua, () => this.#overlay.writeZeroes(offset, length, options, signal));
  }

  async flush(signal: AbortSignal): Promise<void> {
    this.#lease.assertHeld();
    await this.#answer(this.#overlay.flush(signal));
    this.#lease.assertHeld();
  }

  async #change(signal: AbortSignal, fua: boolean, change: () => Promise<void>): Promise<void> {
    const generations = this.#generations;
    let fullSinceMs: number | undefined;
    // Between the last look and `during` nothing else may run.
    while (true) {
      this.#lease.assertHeld();
      const { obstacle } = generations;
      if (obstacle === undefined && !this.#room.isFull) break;
      const ended = AbortSignal.any([signal, this.ended]);
      if (obstacle !== undefined) await untilAborted(obstacle, ended);
      else await this.#room.wait((fullSinceMs ??= performance.now()), ended);
    }
    await generations.during(() => this.#answer(change()));
    if (fua) this.#lease.assertHeld();
    const { openLogBytes, openIndexBytes } = this.#bounds;
    if (this.#overlay.openBytes > openLogBytes || this.#overlay.openIndexBytes > openIndexBytes) generations.sealSoon();
  }

  async #answer<Answer>(work: Promise<Answer>): Promise<Answer> {
    try {
      return await work;
    } catch (error) {
      if (error instanceof OverlayFailedError) this.#lease.end(`disk ${this.#generations.diskId}: ${error.message}`);
      // Committed, the log goes, and there may be room again.
      if (error instanceof OverlayFullError) this.#generations.sealSoon();
      throw asDeviceError(error);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#generations[Symbol.asyncDispose]();
  }
}
