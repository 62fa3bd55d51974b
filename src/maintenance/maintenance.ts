// Care for the stored data while the service runs: garbage collection and scrub, on their schedules and whenever somebody asks. What it
// does is counted in metrics, whoever asked.
import type { EntityManager } from '@mikro-orm/postgresql';
import { type CollectedAll, collectNow, type CollectNowOptions } from '../gc/collect.ts';
import { createGcMetrics, type GcMetrics } from '../gc/metrics.ts';
import { GcSchedule } from '../gc/schedule.ts';
import type { Log } from '../platform/log.ts';
import type { Metrics } from '../platform/metrics.ts';
import { createScrubMetrics, type ScrubMetrics } from '../scrub/metrics.ts';
import { ScrubSchedule, tellFindings } from '../scrub/schedule.ts';
import { type ScrubReport, scrubNow, type ScrubNowOptions, summaryOf } from '../scrub/scrub-store.ts';
import type { Storage } from '../storage/open.ts';

export interface MaintenanceParts {
  /** Of the database; of one that gives a connection one session. */
  url: string;
  fork: () => EntityManager;
  storage: Storage;
  log: Log;
  metrics: Metrics;
}

export class Maintenance implements AsyncDisposable {
  readonly #parts: MaintenanceParts;
  readonly #gcMetrics: GcMetrics;
  readonly #scrubMetrics: ScrubMetrics;
  readonly #schedules = new AsyncDisposableStack();
  #gc: GcSchedule | undefined;

  constructor(parts: MaintenanceParts) {
    this.#parts = parts;
    this.#gcMetrics = createGcMetrics(parts.metrics);
    this.#scrubMetrics = createScrubMetrics(parts.metrics);
  }

  /** Begins the schedules. `scrubBytesPerSecond` 0: no scrub but on demand. */
  start({ scrubBytesPerSecond }: { scrubBytesPerSecond: number }): void {
    this.#gc = this.#schedules.use(new GcSchedule({ ...this.#parts, metrics: this.#gcMetrics }));
    if (scrubBytesPerSecond === 0) return;
    this.#schedules.use(new ScrubSchedule({ ...this.#parts, metrics: this.#scrubMetrics, bytesPerSecond: scrubBytesPerSecond }));
  }

  /** Something was deleted or given up: its bytes are to go soon. */
  freed(): void {
    this.#gc?.soon();
  }

  /** A disk's base was replaced by the next one, as happens all the time while it is written. */
  replaced(): void {
    this.#gc?.later();
  }

  /** @throws as collectNow. */
  async collectNow(options: CollectNowOptions): Promise<CollectedAll> {
    const startedAt = performance.now();
    try {
      const collected = await collectNow(this.#parts, options);
      if (options.dryRun !== true) this.#gcMetrics.collected(collected, performance.now() - startedAt);
      return collected;
    } catch (error) {
      if (options.signal?.aborted !== true) this.#gcMetrics.failed();
      throw error;
    }
  }

  /** @throws as scrubNow. */
  async scrubNow(options: Omit<ScrubNowOptions, 'storage' | 'fork'>): Promise<ScrubReport> {
    const count = this.#scrubMetrics.reader();
    try {
      const report = await scrubNow({
        ...this.#parts,
        ...options,
        onProgress(progress) {
          count(progress);
          options.onProgress?.(progress);
        },
      });
      const summary = summaryOf(report.findings);
      this.#scrubMetrics.finished(summary);
      this.#scrubMetrics.last(summary, Date.now() / 1000);
      tellFindings(this.#parts.log, report.findings);
      return report;
    } catch (error) {
      if (options.signal?.aborted !== true) this.#scrubMetrics.failed();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#schedules.disposeAsync();
  }
}
