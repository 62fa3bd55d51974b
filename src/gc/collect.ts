// Runs of garbage collection against the service's database and store.
import { setTimeout as delay } from 'node:timers/promises';
import { TransientError } from '../platform/errors.ts';
import { type Collected, type CollectOptions, type CollectPhase, collectGarbage, nothingCollected } from '../storage/gc.ts';
import type { Storage } from '../storage/open.ts';
import { registeredWriters, unclaimed } from './claims.ts';
import { CollectorSession } from './collector-session.ts';
import { PostgresLedger } from './postgres-ledger.ts';

export interface Collector {
  /** Of the database; of one that gives a connection one session (no proxy in transaction mode). */
  url: string;
  storage: Storage;
}

export interface CollectedAll extends Collected {
  /** Condemnations that stand, and those among them that can be deleted now. */
  pending: number;
  due: number;
}

/**
 * One run. Undefined when another collector runs.
 * @throws PageCorruptError when a page in use is damaged; TransientError when store or database are away; signal.reason.
 */
export async function collect(
  { url, storage: { blobs, layers } }: Collector,
  options: Pick<CollectOptions, 'dryRun' | 'signal' | 'onProgress'> = {},
): Promise<CollectedAll | undefined> {
  await using session = await CollectorSession.open(url, options.signal);
  if (session === undefined) return undefined;
  const collected = await collectGarbage({ blobs, layers, ledger: new PostgresLedger(session), ...options });
  const [row] = await session.query<{ pending: number; due: number }>(
    `select count(*)::int as pending,
            (count(*) filter (where writers is not null and not writers && (${registeredWriters}) and ${unclaimed}))::int as due
     from condemned_objects`,
  );
  return { ...collected, ...row! };
}

export type CollectNowPhase = CollectPhase | 'wait';

export interface CollectNowOptions {
  dryRun?: boolean | undefined;
  /** `wait`: another collector runs. */
  onProgress?: ((progress: Collected & { phase: CollectNowPhase }) => void) | undefined;
  signal?: AbortSignal | undefined;
  /** For another collector's end. */
  waitMs?: number | undefined;
}

const waitPollMs = 250;

/**
 * What the command does: a run as soon as no other one is under way, and another one when it leaves something that can be deleted at once
 * (what is condemned in one run is deleted in the next). @throws as collect; TransientError when another collector does not end.
 */
export async function collectNow(collector: Collector, options: CollectNowOptions = {}): Promise<CollectedAll> {
  const first = await whenAlone(collector, options);
  if (options.dryRun === true || first.due === 0) return first;
  const { deleted, withdrawn, ...last } = await whenAlone(collector, options);
  return {
    ...last,
    condemned: first.condemned,
    condemnedBytes: first.condemnedBytes,
    deleted: first.deleted + deleted,
    withdrawn: first.withdrawn + withdrawn,
  };
}

async function whenAlone(collector: Collector, options: CollectNowOptions): Promise<CollectedAll> {
  const { dryRun, onProgress, signal, waitMs = 10 * 60_000 } = options;
  const deadlineMs = performance.now() + waitMs;
  while (true) {
    const collected = await collect(collector, { dryRun, onProgress, signal });
    if (collected !== undefined) return collected;
    if (performance.now() > deadlineMs)
      throw new TransientError('garbage is being collected by another process; try again later');
    onProgress?.({ ...nothingCollected(), phase: 'wait' });
    await delay(waitPollMs, undefined, signal === undefined ? {} : { signal }).catch(() => {});
    signal?.throwIfAborted();
  }
}
