// When garbage is collected: a while after the start, now and then, and soon after something was given up or deleted. What a run condemns a later
// one deletes, so a run that leaves something is followed by another when the writers that it waits for have had time to end.
import { setTimeout as delay } from 'node:timers/promises';
import { TransientError } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import { collect, type Collector } from './collect.ts';
import type { GcMetrics } from './metrics.ts';

export interface ScheduleOptions extends Collector {
  log: Log;
  metrics: GcMetrics;
  bounds?: Partial<ScheduleBounds>;
}

export interface ScheduleBounds {
  firstMs: number;
  intervalMs: number;
  /** From a hint to the run that follows it. */
  soonMs: number;
  /** The same for a hint that is given all the time while disks are written. */
  laterMs: number;
  /** From a run that condemned something to the next; doubled while nothing could be deleted. */
  followMs: number;
  /** Runs take at most one part in so many of the time. */
  restFactor: number;
}

const defaultBounds: ScheduleBounds = {
  firstMs: 3 * 60_000,
  intervalMs: 60 * 60_000,
  soonMs: 2_000,
  laterMs: 60_000,
  followMs: 2_000,
  restFactor: 5,
};

export class GcSchedule implements AsyncDisposable {
  readonly #options: ScheduleOptions;
  readonly #bounds: ScheduleBounds;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #hintedSoon = Promise.withResolvers<void>();
  #hintedLater = Promise.withResolvers<void>();

  /** Runs until it is disposed of. */
  constructor(options: ScheduleOptions) {
    this.#options = options;
    this.#bounds = { ...defaultBounds, ...options.bounds };
    this.#running = this.#loop();
  }

  /** Something was given up or deleted: its bytes are to go soon. Cheap, and may be called as often as one likes. */
  soon(): void {
    this.#hintedSoon.resolve();
  }

  /** Something was replaced that had no long life: its bytes are to go within minutes. */
  later(): void {
    this.#hintedLater.resolve();
  }

  async #loop(): Promise<void> {
    const { signal } = this.#stop;
    let waitMs = this.#bounds.firstMs;
    let restMs = 0;
    let followMs = this.#bounds.followMs;
    while (true) {
      await this.#pause(waitMs, restMs);
      if (signal.aborted) return;
      this.#hintedSoon = Promise.withResolvers();
      this.#hintedLater = Promise.withResolvers();
      const startedAt = performance.now();
      const left = await this.#run();
      restMs = (performance.now() - startedAt) * this.#bounds.restFactor;
      followMs = left === 'due' ? this.#bounds.followMs : Math.min(followMs * 2, this.#bounds.intervalMs);
      waitMs = left === 'nothing' ? this.#bounds.intervalMs : followMs;
      if (left === 'nothing') followMs = this.#bounds.followMs;
    }
  }

  /** Until the time has come, or soon after a hint; never before a rest. */
  async #pause(waitMs: number, restMs: number): Promise<void> {
    const { signal } = this.#stop;
    const sleep = (ms: number, over: AbortSignal) =>
      delay(ms, undefined, { signal: AbortSignal.any([signal, over]) }).catch(() => {});
    const over = new AbortController();
    const after = async (hint: Promise<void>, ms: number) => {
      await hint;
      await sleep(Math.max(ms, restMs), over.signal);
    };
    await Promise.race([
      sleep(Math.max(waitMs, restMs), over.signal),
      after(this.#hintedSoon.promise, this.#bounds.soonMs),
      after(this.#hintedLater.promise, this.#bounds.laterMs),
    ]);
    over.abort();
  }

  async #run(): Promise<'nothing' | 'pending' | 'due'> {
    const { log, metrics } = this.#options;
    const { signal } = this.#stop;
    const startedAt = performance.now();
    try {
      const collected = await collect(this.#options, { signal });
      if (collected === undefined) return 'pending';
      const durationMs = Math.round(performance.now() - startedAt);
      metrics.collected(collected, durationMs);
      if (collected.missing > 0) log.error({ missing: collected.missing }, 'objects that are in use are not in the store');
      if (collected.condemned + collected.deleted + collected.withdrawn > 0)
        log.info({ ...collected, durationMs }, 'garbage was collected');
      if (collected.due > 0) return 'due';
      return collected.pending > 0 ? 'pending' : 'nothing';
    } catch (error) {
      if (signal.aborted) return 'nothing';
      metrics.failed();
      if (error instanceof TransientError) log.warn({ reason: error.message }, 'garbage could not be collected; trying again');
      else log.error({ err: error }, 'garbage could not be collected');
      return 'pending';
    }
  }

  /** Stops a run under way: at once, or when the deletes of the moment have ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('the service is stopping'));
    await this.#running;
  }
}
