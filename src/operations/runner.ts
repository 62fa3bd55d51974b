// Runs jobs: claims what is due as long as there are places, keeps the leases, and ends every attempt (settle.ts).
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Listener } from '../db/listen.ts';
import { HeldJob } from './held-job.ts';
import { jobChannel } from './job-bell.ts';
import type { JobHandler } from './job-handler.ts';
import { claimJobs } from './job-queries.ts';
import { LeaseKeeper } from './lease-keeper.ts';
import { storeProgress } from './operation-queries.ts';
import { defaultBounds, type JobOutcome, type RunnerContext, type RunnerParts } from './runner-parts.ts';
import { aboutJob, carryOut, type Settled } from './settle.ts';

/** Places beside the bounded ones, for jobs that were cancelled before they ran: their end is one short transaction. */
const cancelledPlaces = 2;

/** Waiting for the last notification at shutdown, ms. */
const farewellMs = 1_000;

export class Runner implements AsyncDisposable {
  readonly #parts: RunnerParts;
  readonly #context: RunnerContext;
  readonly #handlers: ReadonlyMap<string, JobHandler>;
  readonly #owner = `${process.pid}-${randomUUID()}`;
  readonly #held = new Map<string, HeldJob>();
  readonly #running = new Set<Promise<void>>();
  readonly #keeper: LeaseKeeper;
  /** Ends claims and the poll first, renewals and progress last. */
  readonly #stopClaiming = new AbortController();
  readonly #stopKeeping = new AbortController();
  readonly #resources = new AsyncDisposableStack();
  #loops: Promise<unknown> = Promise.resolve();
  #isPumping = false;
  #isRung = false;

  constructor(parts: RunnerParts) {
    this.#parts = parts;
    const bounds = { ...defaultBounds, ...parts.bounds };
    this.#context = { fork: parts.fork, bell: parts.bell, access: parts.access, log: parts.log, bounds };
    this.#handlers = new Map(parts.handlers.map((handler) => [handler.kind, handler]));
    this.#keeper = new LeaseKeeper(this.#context, this.#held);
  }

  /** Begins to claim jobs. Until it is disposed of, the runner lives through whatever happens to the database. */
  start(): void {
    const { bell, listenUrl, log } = this.#parts;
    const onWork = () => this.#pump();
    const onCancel = (ids: readonly string[] | undefined) => {
      if (ids === undefined || ids.some((id) => this.#held.has(id))) this.#keeper.renewNow();
    };
    this.#resources.use(bell.subscribe({ onWork, onCancel }));
    if (listenUrl !== undefined) {
      const onLost = (error: Error) =>
        log.warn({ reason: error.message }, 'the LISTEN connection is lost; jobs are found by polling');
      // What was notified meanwhile was missed: cancellations as well as work.
      const onListening = () => bell.hear('');
      this.#resources.use(
        new Listener({
          url: listenUrl,
          channel: jobChannel,
          onNotification: (payload) => bell.hear(payload),
          onListening,
          onLost,
        }),
      );
    }
    this.#loops = Promise.all([
      this.#every(this.#context.bounds.pollMs, this.#stopClaiming.signal, onWork),
      this.#every(this.#context.bounds.progressMs, this.#stopKeeping.signal, () => this.#writeProgress()),
      this.#keeper.run(this.#stopKeeping.signal),
    ]);
    this.#pump();
  }

  async #every(intervalMs: number, signal: AbortSignal, body: () => unknown): Promise<void> {
    while (!signal.aborted) {
      await delay(intervalMs, undefined, { signal }).catch(() => {});
      if (!signal.aborted) await body();
    }
  }

  /** Looks for due jobs; a ring during a look makes it look again. */
  #pump(): void {
    this.#isRung = true;
    if (!this.#isPumping && !this.#stopClaiming.signal.aborted) void this.#claimAll();
  }

  async #claimAll(): Promise<void> {
    this.#isPumping = true;
    try {
      while (this.#isRung && !this.#stopClaiming.signal.aborted) {
        this.#isRung = false;
        const free = this.#parts.concurrency - this.#held.size;
        const limit = free > 0 ? free : this.#parts.concurrency + cancelledPlaces - this.#held.size;
        if (limit <= 0) return;
        const claimed = await this.#claim(limit, free <= 0);
        // A full answer says that there may be more.
        if (claimed === limit) this.#isRung = true;
      }
    } catch (error) {
      this.#context.log.warn({ reason: (error as Error).message }, 'jobs could not be claimed; trying again');
    } finally {
      this.#isPumping = false;
    }
  }

  async #claim(limit: number, cancelledOnly: boolean): Promise<number> {
    const { bounds, fork } = this.#context;
    const atMs = performance.now();
    const claimed = await claimJobs(fork(), {
      kinds: [...this.#handlers.keys()],
      owner: this.#owner,
      leaseMs: bounds.leaseMs,
      limit,
      except: [...this.#held.keys()],
      cancelledOnly,
    });
    for (const row of claimed) {
      const job = new HeldJob(row, this.#context, atMs);
      this.#held.set(job.operationId, job);
      if (this.#stopClaiming.signal.aborted) job.abort('shutdown');
      const run = this.#run(job);
      this.#running.add(run);
      void run.finally(() => this.#running.delete(run));
    }
    return claimed.length;
  }

  async #run(job: HeldJob): Promise<void> {
    const { log } = this.#context;
    this.#parts.metrics?.started?.(job.kind);
    if (!job.cancelRequested) this.#parts.metrics?.claimed?.(job.kind, job.waitedMs);
    let settled: Settled;
    try {
      settled = await carryOut(job, this.#handlers.get(job.kind)!, this.#context);
    } catch (error) {
      // Nothing more can be said to the database: the lease ends by itself.
      log.error({ ...aboutJob(job), err: error }, 'a job could not be ended; its lease will end');
      settled = { outcome: 'lost' };
    }
    job.release();
    this.#held.delete(job.operationId);
    this.#report(job, settled.outcome, settled.reason);
    // A place is free.
    this.#pump();
  }

  /** One line per attempt. */
  #report(job: HeldJob, outcome: JobOutcome, reason: string | undefined): void {
    const durationMs = Math.round(performance.now() - job.startedAtMs);
    const fields = { ...aboutJob(job), outcome, ...(reason === undefined ? {} : { reason }), durationMs };
    if (outcome === 'lost') this.#context.log.warn(fields, 'job lost to another attempt');
    else this.#context.log.info(fields, 'job ended');
    this.#parts.metrics?.left?.(job.kind, outcome, durationMs);
  }

  async #writeProgress(): Promise<void> {
    const jobs = [...this.#held.values()].filter((job) => job.meter.isFresh && !job.isEnding && !job.leaseSignal.aborted);
    if (jobs.length === 0) return;
    const nowMs = performance.now();
    const rows = jobs.map(({ operationId, attempt, meter }) => Object.assign(meter.take(nowMs), { operationId, attempt }));
    try {
      await storeProgress(this.#context.fork(), rows);
    } catch {
      // Told again with the next report.
    }
  }

  /** Stops claiming, aborts the handlers, waits for them (bounded) and gives their leases back. Leases are kept until then. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { bounds, log } = this.#context;
    this.#stopClaiming.abort();
    for (const job of this.#held.values()) job.abort('shutdown');
    const bound = new AbortController();
    const late = delay(bounds.shutdownMs, undefined, { signal: bound.signal }).catch(() => {});
    while (this.#running.size > 0 || this.#isPumping) {
      const waiting = this.#running.size > 0 ? Promise.allSettled(this.#running) : delay(10);
      const isLate = await Promise.race([waiting.then(() => false), late.then(() => true)]);
      if (isLate) {
        log.warn({ jobs: this.#held.size }, 'handlers did not end in time; their leases will end');
        break;
      }
    }
    bound.abort();
    this.#stopKeeping.abort();
    // Whatever they still do, it must not reach for a database that is gone.
    for (const job of this.#held.values()) job.loseLease();
    await this.#resources.disposeAsync();
    await this.#loops;
    await Promise.race([this.#parts.bell.settled(), delay(farewellMs, undefined, { ref: false })]);
  }
}
