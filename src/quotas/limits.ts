// What limit holds for a cloud, and how it is set.
import type { EntityManager } from '@mikro-orm/postgresql';
import { requireCloud } from '../iam/hierarchy/require-cloud.ts';
import { DomainError, invalidArgument } from '../platform/errors.ts';
import type { Quota } from './quota.ts';
import { QuotaLimit } from './quota-limit.entity.ts';

/** In the quota's unit; undefined: no limit. The system cloud, which holds what belongs to everybody, has none. */
export async function limitOf(em: EntityManager, quota: Quota, cloudId: string): Promise<number | undefined> {
  const { system } = await requireCloud(em, cloudId);
  if (system) return undefined;
  const set = await em.findOne(QuotaLimit, { cloudId, quotaId: quota.id }, { refresh: true });
  return set === null ? quota.defaultLimit : (set.value ?? undefined);
}

export interface QuotaState {
  quotaId: string;
  /** Undefined: no limit. */
  limit: number | undefined;
  usage: number;
}

export async function quotaState(em: EntityManager, quota: Quota, cloudId: string): Promise<QuotaState> {
  return { quotaId: quota.id, limit: await limitOf(em, quota, cloudId), usage: await quota.usage(em, cloudId) };
}

/** What to make of a limit: a number in the quota's unit, none at all, or what it was before anybody set it. */
export type NewLimit = number | 'unlimited' | 'default';

/**
 * Sets the limit, in a transaction of its own. One below what is used is kept: it refuses what comes, and takes nothing away.
 * @throws DomainError NOT_FOUND, INVALID_ARGUMENT, FAILED_PRECONDITION for the system cloud.
 */
export async function setLimit(em: EntityManager, quota: Quota, cloudId: string, limit: NewLimit): Promise<QuotaState> {
  if (typeof limit === 'number' && (!Number.isSafeInteger(limit) || limit < 0)) {
    throw invalidArgument('limit', `must be a whole number from 0 to ${Number.MAX_SAFE_INTEGER}, not ${limit}`);
  }
  return em.fork().transactional(async (inner) => {
    const { system } = await requireCloud(inner, cloudId);
    if (system) throw new DomainError('FAILED_PRECONDITION', `Cloud ${cloudId} belongs to everybody: it has no limits`);
    if (limit === 'default') await inner.nativeDelete(QuotaLimit, { cloudId, quotaId: quota.id });
    else {
      const value = limit === 'unlimited' ? null : limit;
      await inner.upsert(QuotaLimit, { cloudId, quotaId: quota.id, value, modifiedAt: new Date() });
    }
    return quotaState(inner, quota, cloudId);
  });
}

/** @throws DomainError NOT_FOUND. */
export const requireQuota = (quotas: readonly Quota[], id: string): Quota => {
  const quota = quotas.find((candidate) => candidate.id === id);
  if (quota === undefined) {
    throw new DomainError('NOT_FOUND', `Quota ${id} not found: there are ${quotas.map((known) => known.id).join(', ')}`);
  }
  return quota;
};
