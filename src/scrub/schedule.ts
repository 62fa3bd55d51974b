// The service's own scrub: a pass every week or so, at a low rate, by one process at a time. How far it is lies in the database, so it
// goes on where it was stopped.
import { setTimeout as delay } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { isTransientDatabaseError } from '../db/database-error.ts';
import { CollectorSession, scrubLock } from '../gc/collector-session.ts';
import { TransientError } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import type { Storage } from '../storage/open.ts';
import type { ScrubMetrics } from './metrics.ts';
import { finishPass, lastFinished, type PassUnderWay, savePass, takeUpPass } from './pass-queries.ts';
import { type ScrubFinding, type ScrubReport, scrubStore, summaryOf } from './scrub-store.ts';

export interface ScrubScheduleOptions {
  /** Of the database; of one that gives a connection one session. */
  url: string;
  fork: () => EntityManager;
  storage: Storage;
  log: Log;
  metrics: ScrubMetrics;
  /** Bytes of objects that are read per second at most. */
  bytesPerSecond: number;
  bounds?: Partial<ScrubBounds>;
}

export interface ScrubBounds {
  firstMs: number;
  /** Between looks whether a pass is due. */
  pollMs: number;
  /** From the beginning of a pass to that of the next. */
  intervalMs: number;
  saveMs: number;
}

const defaultBounds: ScrubBounds = {
  firstMs: 2 * 60_000,
  pollMs: 5 * 60_000,
  intervalMs: 7 * 24 * 3600_000,
  saveMs: 10_000,
};

export class ScrubSchedule implements AsyncDisposable {
  readonly #options: ScrubScheduleOptions;
  readonly #bounds: ScrubBounds;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  /** Runs until it is disposed of. */
  constructor(options: ScrubScheduleOptions) {
    this.#options = options;
    this.#bounds = { ...defaultBounds, ...options.bounds };
    this.#running = this.#loop();
  }

  async #loop(): Promise<void> {
    const { signal } = this.#stop;
    let waitMs = this.#bounds.firstMs;
    while (true) {
      await delay(waitMs, undefined, { signal, ref: false }).catch(() => {});
      if (signal.aborted) return;
      waitMs = this.#bounds.pollMs;
      await this.#look();
    }
  }

  async #look(): Promise<void> {
    const { url, fork, log, metrics } = this.#options;
    const { signal } = this.#stop;
    try {
      {
        await using session = await CollectorSession.open(url, signal, scrubLock);
        const pass = session && (await takeUpPass(fork(), this.#bounds.intervalMs));
        if (pass !== undefined) await this.#finish(pass, session!);
      }
      const last = await lastFinished(fork());
      if (last !== undefined) metrics.last(last.summary, last.atSeconds);
    } catch (error) {
      if (signal.aborted) return;
      metrics.failed();
      if (error instanceof TransientError || isTransientDatabaseError(error))
        log.warn({ reason: (error as Error).message }, 'scrub was interrupted; it goes on later');
      else log.error({ err: error }, 'scrub failed; it goes on later');
    }
  }

  async #finish(pass: PassUnderWay, session: CollectorSession): Promise<void> {
    const { fork, log, metrics } = this.#options;
    const startedAt = performance.now();
    const { objects, bytes, findings } = await this.#run(pass, session);
    const summary = summaryOf(findings);
    const whole = { objects: pass.objects + objects, bytes: pass.bytes + bytes };
    await finishPass(fork(), { ...whole, summary }, performance.now() - startedAt);
    metrics.finished(summary);
    tellFindings(log, findings);
    log.info({ ...whole, ...summary }, 'scrub has read everything');
  }

  async #run(pass: PassUnderWay, session: CollectorSession): Promise<ScrubReport> {
    const { storage, fork, bytesPerSecond, metrics } = this.#options;
    const count = metrics.reader();
    const { saveMs } = this.#bounds;
    let nextSaveAt = performance.now() + saveMs;
    let saving: Promise<unknown> = Promise.resolve();
    const lost = new AbortController();
    const signal = AbortSignal.any([this.#stop.signal, lost.signal]);
    try {
      return await scrubStore({
        storage,
        fork,
        bytesPerSecond,
        after: pass.afterKey,
        signal,
        onProgress({ key, objects, bytes }) {
          count({ objects, bytes });
          if (performance.now() < nextSaveAt) return;
          nextSaveAt = Infinity;
          saving = save({ afterKey: key, objects: pass.objects + objects, bytes: pass.bytes + bytes });
        },
      });
    } finally {
      await saving;
    }

    async function save(progress: PassUnderWay): Promise<void> {
      try {
        // Another process may go on with the pass when our session has ended.
        session.assertAlive();
        await savePass(fork(), progress);
      } catch (error) {
        lost.abort(error);
      }
      nextSaveAt = performance.now() + saveMs;
    }
  }

  /** Stops a pass under way; it goes on at the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('the service is stopping'));
    await this.#running;
  }
}

/** Ids of each kind that a log line names; `obraz scrub` names all. */
const loggedIds = 100;

/** Damage is for a person to see: one line for each object, with what it touches. */
export function tellFindings(log: Log, findings: readonly ScrubFinding[]): void {
  for (const { key, reason, holders } of findings) {
    const named = (kind: string) =>
      holders
        .filter((holder) => holder.kind === kind)
        .slice(0, loggedIds)
        .map(({ id }) => id);
    log.error(
      { key, reason, images: named('image'), snapshots: named('snapshot'), disks: named('disk'), touched: holders.length },
      'scrub: a stored object is damaged or missing',
    );
  }
}
