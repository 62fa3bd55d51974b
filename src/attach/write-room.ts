// Where changes of a disk wait while too much is not committed: of its own log and index, or of the memory that the indexes of all disks
// share (index-budget.ts). A wait ends when a commit has made room. It ends as on a full disk (ENOSPC) when no commit has got on for a
// minute, or after ten minutes in any case: nothing was changed then, nothing acknowledged is lost, and the client may try again.
import { setTimeout as delay } from 'node:timers/promises';
import { BlockDeviceError } from '../nbd/block-device.ts';
import type { Log } from '../platform/log.ts';
import { untilAborted } from '../platform/until-aborted.ts';
import type { IndexBudget, IndexOwner } from './index-budget.ts';

export interface WriterBounds {
  /** When the log or the index of the open generation passes these, it is sealed and committed while writes go on. */
  openLogBytes: number;
  openIndexBytes: number;
  /** Of all generations that are not committed: writes wait when these are passed, until a commit has made room. */
  logBytes: number;
  indexBytes: number;
  /** How long a change waits while no commit gets on, and in any case. */
  stalledMs: number;
  waitMs: number;
}

const MiB = 1024 * 1024;

export const defaultWriterBounds: WriterBounds = {
  openLogBytes: 512 * MiB,
  openIndexBytes: 16 * MiB,
  logBytes: 8 * 1024 * MiB,
  indexBytes: 128 * MiB,
  stalledMs: 60_000,
  waitMs: 600_000,
};

const warnPauseMs = 60_000;

/** A disk whose log is bounded, too. */
export interface LogOwner extends IndexOwner {
  readonly diskId: string;
  readonly logBytes: number;
}

export class WriteRoom {
  readonly #owner: LogOwner;
  readonly #bounds: WriterBounds;
  readonly #budget: IndexBudget;
  readonly #log: Log;
  /** By message. */
  readonly #warnedAtMs = new Map<string, number>();

  constructor(owner: LogOwner, bounds: WriterBounds, budget: IndexBudget, log: Log) {
    this.#owner = owner;
    this.#bounds = bounds;
    this.#budget = budget;
    this.#log = log;
  }

  get isFull(): boolean {
    const { logBytes, indexBytes } = this.#owner;
    return logBytes > this.#bounds.logBytes || indexBytes > this.#bounds.indexBytes || this.#budget.isSpentFor(this.#owner);
  }

  /** Waits until something was committed anywhere; ask again then. @param sinceMs when the change began to wait. @throws ENOSPC; signal.reason */
  async wait(sinceMs: number, signal: AbortSignal): Promise<void> {
    const { stalledMs, waitMs } = this.#bounds;
    const budget = this.#budget;
    const endMs = Math.min(sinceMs + waitMs, Math.max(sinceMs, budget.movedAtMs) + stalledMs);
    const leftMs = endMs - performance.now();
    const { diskId, logBytes, indexBytes } = this.#owner;
    if (leftMs <= 0) {
      this.#warn('a write was refused as if the disk were full: what was written before is not committed yet');
      throw new BlockDeviceError(
        'ENOSPC',
        `disk ${diskId} has ${logBytes} bytes of log and ${indexBytes} of index to be committed`,
      );
    }
    this.#warn('writes wait: what was written before is to be committed first');
    this.#owner.sealSoon();
    budget.relieve();
    const over = new AbortController();
    budget.waiting += 1;
    try {
      const end = delay(leftMs, undefined, { signal: over.signal }).catch(() => undefined);
      await untilAborted(Promise.race([budget.room, end]), signal);
    } finally {
      budget.waiting -= 1;
      over.abort();
    }
  }

  #warn(message: string): void {
    const nowMs = performance.now();
    if (nowMs < (this.#warnedAtMs.get(message) ?? -Infinity) + warnPauseMs) return;
    this.#warnedAtMs.set(message, nowMs);
    const { diskId, logBytes, indexBytes } = this.#owner;
    this.#log.warn({ diskId, logBytes, indexBytes, indexBytesOfAll: this.#budget.usedBytes }, message);
  }
}
