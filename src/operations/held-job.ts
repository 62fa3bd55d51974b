// A job that this process has claimed: what its handler sees, and the clock of its lease.
import { setTimeout as delay } from 'node:timers/promises';
import { isTransientDatabaseError } from '../db/database-error.ts';
import { type AbortCause, JobAborted, LeaseLost, type ProgressReport, type RunningJob } from './job-handler.ts';
import { type ClaimedJob, storeCheckpoint } from './job-queries.ts';
import type { JobAuthority } from './job.entity.ts';
import { ProgressMeter } from './progress-meter.ts';
import type { RunnerContext } from './runner-parts.ts';

const firstRetryMs = 50;
const maxRetryMs = 1_000;

export class HeldJob implements RunningJob {
  readonly operationId: string;
  readonly attempt: number;
  readonly kind: string;
  readonly payload: unknown;
  readonly waitedMs: number;
  readonly startedAtMs = performance.now();
  readonly meter = new ProgressMeter();
  readonly lastError: string | null;
  /** Null: it is run whatever anybody may do. */
  readonly authority: JobAuthority | null;
  checkpoint: unknown;
  stalledAttempts: number;
  /** Its operation is being ended: progress is no longer written. */
  isEnding = false;
  /** Someone wants it cancelled, as of the claim or the last renewal. */
  cancelRequested: boolean;
  readonly #context: RunnerContext;
  readonly #controller = new AbortController();
  readonly #lease = new AbortController();
  #timer: NodeJS.Timeout | undefined;

  /** `claimedAtMs`: monotonic time before the claim was sent, so that the lease is never thought longer than it is. */
  constructor(claimed: ClaimedJob, context: RunnerContext, claimedAtMs: number) {
    this.operationId = claimed.operationId;
    this.attempt = claimed.attempt;
    this.kind = claimed.kind;
    this.payload = claimed.payload;
    this.waitedMs = claimed.waitedMs;
    this.checkpoint = claimed.checkpoint ?? undefined;
    this.stalledAttempts = claimed.stalledAttempts;
    this.lastError = claimed.lastError;
    this.authority = claimed.authority;
    this.cancelRequested = claimed.cancelRequested;
    this.#context = context;
    this.leasedAt(claimedAtMs);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Fires when the lease is over, or about to be: unlike `signal`, not for a cancellation or a shutdown. */
  get leaseSignal(): AbortSignal {
    return this.#lease.signal;
  }

  /** Why `signal` fired. */
  get abortCause(): AbortCause | undefined {
    return this.signal.aborted ? (this.signal.reason as JobAborted).why : undefined;
  }

  /** The lease runs from `atMs`, monotonic, of this process. */
  leasedAt(atMs: number): void {
    clearTimeout(this.#timer);
    if (this.#lease.signal.aborted) return;
    const { leaseMs, leaseMarginMs } = this.#context.bounds;
    this.#timer = setTimeout(() => this.loseLease(), Math.max(0, atMs + leaseMs - leaseMarginMs - performance.now()));
  }

  loseLease(): void {
    clearTimeout(this.#timer);
    this.#lease.abort(new LeaseLost());
    this.#controller.abort(new LeaseLost());
  }

  abort(why: AbortCause): void {
    this.#controller.abort(new JobAborted(why));
  }

  /** No more timers; the job has left this process. */
  release(): void {
    clearTimeout(this.#timer);
  }

  progress(report: ProgressReport): void {
    this.meter.report(report);
  }

  async saveCheckpoint(value: unknown, options: { pinnedRoots?: readonly string[] } = {}): Promise<void> {
    this.signal.throwIfAborted();
    const json = JSON.stringify(value);
    const stalledAttempts = await this.throughOutages(
      () => storeCheckpoint(this.#context.fork(), this, json, options.pinnedRoots),
      this.signal,
    );
    if (stalledAttempts === undefined) {
      this.loseLease();
      throw new LeaseLost();
    }
    this.stalledAttempts = stalledAttempts;
    this.checkpoint = value;
  }

  /** Does `body` again while the database is away and the job is still this attempt's. @throws signal.reason when `signal` fires. */
  async throughOutages<Answer>(body: () => Promise<Answer>, signal: AbortSignal = this.leaseSignal): Promise<Answer> {
    let pauseMs = firstRetryMs;
    while (true) {
      signal.throwIfAborted();
      try {
        return await body();
      } catch (error) {
        if (!isTransientDatabaseError(error)) throw error;
        await delay(pauseMs, undefined, { signal }).catch(() => {});
        pauseMs = Math.min(pauseMs * 2, maxRetryMs);
      }
    }
  }
}
