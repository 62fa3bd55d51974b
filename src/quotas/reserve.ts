// Reservation: the look at quotas in the transaction that makes what counts against them. Those of one cloud happen one after another,
// each after the commit of the one before, so that what they count is all there is and no race over-runs a limit. One lock for all quotas
// of a cloud: transactions that take of several cannot wait for each other. Where nothing is limited nothing is locked.
//
// Locks are taken in the order rows, names, quotas.
import type { EntityManager } from '@mikro-orm/postgresql';
import { quotaExceeded } from '../platform/errors.ts';
import { limitsAt, lockQuotas, type Place } from './limits.ts';
import { type Quota, usagesOf } from './quota.ts';

export interface Demand {
  quota: Quota;
  /** In the quota's unit. Nothing is asked of a quota of which nothing more is taken. */
  amount: number;
}

/**
 * Call it before the rows that take of the quotas are written, and as late as can be: others of the cloud wait until the transaction ends.
 * @throws DomainError RESOURCE_EXHAUSTED with a QuotaFailure; NOT_FOUND of the place.
 */
export async function reserve(em: EntityManager, place: Place, demands: readonly Demand[]): Promise<void> {
  const more = demands.filter(({ amount }) => amount > 0);
  if (more.length === 0) return;
  // Whoever finds no room at a first look waits for nobody, and makes nobody wait.
  const cloudId = await assertRoom(em, place, more);
  if (cloudId === undefined) return;
  await lockQuotas(em, cloudId);
  await assertRoom(em, place, more);
}

/** Answers the cloud; undefined where nothing of it is limited. @throws DomainError RESOURCE_EXHAUSTED. */
async function assertRoom(em: EntityManager, place: Place, demands: readonly Demand[]): Promise<string | undefined> {
  const { cloudId, limits } = await limitsAt(
    em,
    place,
    demands.map(({ quota }) => quota),
  );
  const limited = demands.filter(({ quota }) => limits.has(quota.id));
  if (limited.length === 0) return undefined;
  const usages = await usagesOf(
    em,
    limited.map(({ quota }) => quota),
    { ...place, cloudId },
  );
  for (const { quota, amount } of limited) {
    const limit = limits.get(quota.id)!;
    const usage = usages[quota.id]!;
    const required = usage + amount;
    if (required > limit) throw quotaExceeded(cloudId, { metric: quota.id, limit, usage, required });
  }
  return cloudId;
}
