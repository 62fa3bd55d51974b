// Reservation: the look at quotas in the transaction that makes what counts against them. Those of one cloud happen one after another,
// each after the commit of the one before, so that what they count is all there is and no race over-runs a limit. One lock for all quotas
// of a cloud: transactions that take of several cannot wait for each other. Where nothing is limited nothing is locked.
//
// Locks are taken in the order rows, names, quotas.
import type { EntityManager } from '@mikro-orm/postgresql';
import { quotaExceeded } from '../platform/errors.ts';
import { type CloudLimits, limitsOfCloud, limitsWhere, lockQuotas } from './limits.ts';
import { type Quota, usageInCloud, usageWhere } from './quota.ts';

export interface Demand {
  quota: Quota;
  /** In the quota's unit. Nothing is asked of a quota of which nothing more is taken. */
  amount: number;
}

/**
 * Call it before the rows that take of the quotas are written, and as late as can be: others of the cloud wait until the transaction ends.
 * @throws DomainError RESOURCE_EXHAUSTED with a QuotaFailure; NOT_FOUND of the folder.
 */
export const reserve = (em: EntityManager, folderId: string, demands: readonly Demand[]): Promise<void> =>
  reserveWhere(em, demands, {
    limits: (quotas) => limitsWhere(em, folderId, quotas),
    usage: (quota, cloudId) => usageWhere(em, quota, { cloudId, folderId }),
  });

/** The same for what lies in a cloud and in no folder of it. */
export const reserveInCloud = (em: EntityManager, cloudId: string, demands: readonly Demand[]): Promise<void> =>
  reserveWhere(em, demands, {
    limits: (quotas) => limitsOfCloud(em, cloudId, quotas),
    usage: (quota) => usageInCloud(em, quota, cloudId),
  });

interface Place {
  limits: (quotas: readonly Quota[]) => Promise<CloudLimits>;
  usage: (quota: Quota, cloudId: string) => Promise<number>;
}

async function reserveWhere(em: EntityManager, demands: readonly Demand[], place: Place): Promise<void> {
  const more = demands.filter(({ amount }) => amount > 0);
  if (more.length === 0) return;
  const quotas = more.map(({ quota }) => quota);
  const before = await place.limits(quotas);
  if (before.limits.size === 0) return;
  const { cloudId } = before;
  await lockQuotas(em, cloudId);
  // Asked again: it may have been set while the lock was waited for.
  const { limits } = await place.limits(quotas);
  for (const { quota, amount } of more) {
    const limit = limits.get(quota.id);
    if (limit === undefined) continue;
    const usage = await place.usage(quota, cloudId);
    const required = usage + amount;
    if (required > limit) throw quotaExceeded(cloudId, { metric: quota.id, limit, usage, required });
  }
}
