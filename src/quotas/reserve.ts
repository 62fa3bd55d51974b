// Reservation: the look at a quota in the transaction that makes what counts against it. Those of one quota of one cloud happen one
// after another, each after the commit of the one before, so that what they count is all there is and no race over-runs the limit.
import type { EntityManager } from '@mikro-orm/postgresql';
import { quotaExceeded } from '../platform/errors.ts';
import { limitOf } from './limits.ts';
import type { Quota } from './quota.ts';

/**
 * Call it before the row that takes `amount` is written, and as late as can be: others that take of the same quota wait until the
 * transaction ends. @throws DomainError RESOURCE_EXHAUSTED with a QuotaFailure.
 */
export async function reserve(em: EntityManager, quota: Quota, cloudId: string, amount: number): Promise<void> {
  const key = `quota/${quota.id}/${cloudId}`;
  await em.execute('select pg_advisory_xact_lock(hashtextextended(?, 0))', [key]);
  const limit = await limitOf(em, quota, cloudId);
  if (limit === undefined) return;
  const usage = await quota.usage(em, cloudId);
  const required = usage + amount;
  if (required > limit) throw quotaExceeded(cloudId, { metric: quota.id, limit, usage, required });
}
