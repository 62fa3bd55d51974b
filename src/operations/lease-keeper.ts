// Keeps the leases of all jobs of a runner: one statement every few seconds, which also brings word of cancellations. It does not end
// jobs whose lease cannot be renewed; their own clocks do (held-job.ts).
import { setTimeout as delay } from 'node:timers/promises';
import type { HeldJob } from './held-job.ts';
import { renewLeases } from './job-queries.ts';
import type { RunnerContext } from './runner-parts.ts';

/** Wait before the next try when a renewal failed, or a row was locked, ms. */
const retryMs = 1_000;

export class LeaseKeeper {
  readonly #context: RunnerContext;
  readonly #held: ReadonlyMap<string, HeldJob>;
  #askedNow = Promise.withResolvers<void>();

  constructor(context: RunnerContext, held: ReadonlyMap<string, HeldJob>) {
    this.#context = context;
    this.#held = held;
  }

  /** Renews until `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { renewMs } = this.#context.bounds;
    let pauseMs = renewMs;
    while (!signal.aborted) {
      const cut = new AbortController();
      const pause = delay(pauseMs, undefined, { signal: AbortSignal.any([signal, cut.signal]) }).catch(() => {});
      await Promise.race([pause, this.#askedNow.promise]);
      cut.abort();
      if (signal.aborted) return;
      this.#askedNow = Promise.withResolvers();
      pauseMs = (await this.#renew()) ? renewMs : Math.min(retryMs, renewMs);
    }
  }

  /** Renews at once: somebody was cancelled. */
  renewNow(): void {
    this.#askedNow.resolve();
  }

  /** False when it must be tried again soon. */
  async #renew(): Promise<boolean> {
    const jobs = [...this.#held.values()].filter((job) => !job.leaseSignal.aborted);
    if (jobs.length === 0) return true;
    const { bounds, fork, log } = this.#context;
    const atMs = performance.now();
    const bound = new AbortController();
    try {
      const late = delay(bounds.renewMs, undefined, { signal: bound.signal }).then(() => {
        throw new Error(`no answer within ${bounds.renewMs} ms`);
      });
      late.catch(() => {});
      const answers = await Promise.race([renewLeases(fork(), jobs, bounds.leaseMs), late]);
      return answers.map((answer) => this.#heed(answer, atMs)).every(Boolean);
    } catch (error) {
      log.warn({ jobs: jobs.length, reason: (error as Error).message }, 'leases could not be renewed; trying again');
      return false;
    } finally {
      bound.abort();
    }
  }

  #heed(answer: Awaited<ReturnType<typeof renewLeases>>[number], atMs: number): boolean {
    const job = this.#held.get(answer.operationId);
    if (job === undefined) return true;
    if (answer.renewed) job.leasedAt(atMs);
    // While its end is under way the row may be gone because this process removed it.
    if (job.isEnding) return true;
    if (!answer.held) {
      job.loseLease();
      return true;
    }
    if (answer.cancelRequested) {
      job.cancelRequested = true;
      job.abort('cancelled');
    }
    return answer.renewed;
  }
}
