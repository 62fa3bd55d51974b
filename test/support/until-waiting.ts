import { setTimeout as delay } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../../src/db/bound-query.ts';

/** Resolves when so many statements on the database of `em` wait for a lock; at most 30 s. */
export async function untilWaiting(em: EntityManager, count: number): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (true) {
    const [row] = await query<{ count: number }>(
      em,
      `select count(*)::int as count from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
    );
    if (row!.count >= count) return;
    if (Date.now() > deadline) throw new Error(`${row!.count} statements wait for a lock, not ${count}`);
    await delay(5);
  }
}
