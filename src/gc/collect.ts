// Runs of garbage collection against the service's database and store.
import { type Collected, type CollectOptions, collectGarbage } from '../storage/gc.ts';
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
  options: Pick<CollectOptions, 'dryRun' | 'signal'> = {},
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
