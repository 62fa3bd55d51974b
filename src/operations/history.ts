// Operations that ended are kept for a while (OBRAZ_KEEP_OPERATIONS_DAYS), then go, and so do idempotency keys when they answer no more
// (OBRAZ_KEEP_IDEMPOTENCY_KEYS_HOURS). That their rows go brings no id back: ids are random (platform/ids.ts), and nothing counts them.
import { setTimeout as delay } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import { defaultKeyWindowMs } from './idempotency.ts';

export interface HistoryBounds {
  /** Counted from the operation's beginning; not less than keepKeysMs. Default: 30 days. */
  keepOperationsMs?: number;
  /** Not less than keys answer for. Default: 24 h. */
  keepKeysMs?: number;
}

const dayMs = 24 * 60 * 60 * 1000;
/** However long it ran, an operation can be polled so long after its end. */
const shownAtLeastMinutes = 60;
/** Rows in one statement, so that none is long. */
const batchRows = 1_000;

/** Removes what is older than the bounds; answers how many rows of each went. An operation that is not done is never removed. */
export async function removeHistory(
  em: EntityManager,
  bounds: HistoryBounds = {},
  signal?: AbortSignal,
): Promise<{ operations: number; keys: number }> {
  const { keepOperationsMs = 30 * dayMs, keepKeysMs = defaultKeyWindowMs } = bounds;
  return {
    operations: await removeOlder(
      em,
      'operations',
      `done and modified_at < now() - interval '${shownAtLeastMinutes} minutes'`,
      keepOperationsMs,
      signal,
    ),
    keys: await removeOlder(em, 'idempotency_keys', 'true', keepKeysMs, signal),
  };
}

async function removeOlder(
  em: EntityManager,
  table: 'operations' | 'idempotency_keys',
  condition: string,
  keepMs: number,
  signal: AbortSignal | undefined,
): Promise<number> {
  let removed = 0;
  while (true) {
    if (signal?.aborted === true) break;
    const [row] = await query<{ count: number }>(
      em,
      `with old as materialized (
         select ctid from ${table} where created_at < now() - $1 * interval '1 millisecond' and ${condition}
         order by created_at limit $2 for update skip locked
       ), gone as (delete from ${table} using old where ${table}.ctid = old.ctid returning 1)
       select count(*)::int as count from gone`,
      [keepMs, batchRows],
    );
    removed += row!.count;
    if (row!.count < batchRows) break;
  }
  return removed;
}

/** Removes history now and then until `signal` fires; never throws. What fails is tried again at the next time. */
export async function keepHistoryShort(
  fork: () => EntityManager,
  signal: AbortSignal,
  options: HistoryBounds & { intervalMs?: number; onError?: (error: unknown) => void } = {},
): Promise<void> {
  while (!signal.aborted) {
    try {
      await removeHistory(fork(), options, signal);
    } catch (error) {
      options.onError?.(error);
    }
    await delay(options.intervalMs ?? 10 * 60 * 1000, undefined, { signal }).catch(() => {});
  }
}
