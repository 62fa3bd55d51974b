// What limits hold for a cloud, and how they are set.
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import { requireCloud } from '../iam/hierarchy/require-cloud.ts';
import { DomainError, invalidArgument, notFound } from '../platform/errors.ts';
import { type Quota, usagesOf } from './quota.ts';
import { QuotaLimit } from './quota-limit.entity.ts';

/** By the quota's id, in its unit. One that is not in the map has no limit, as all have none in the system cloud: that is everybody's. */
export type Limits = ReadonlyMap<string, number>;

/** Where something is made: in a folder, or in a cloud and in no folder of it. */
export type Place = { folderId: string } | { cloudId: string };

/** The cloud of a place, and the limits that hold there. @throws DomainError NOT_FOUND. */
export async function limitsAt(
  em: EntityManager,
  place: Place,
  quotas: readonly Quota[],
): Promise<{ cloudId: string; limits: Limits }> {
  const isFolder = 'folderId' in place;
  const placeId = isFolder ? place.folderId : place.cloudId;
  const rows = await query<{ cloudId: string; system: boolean; quotaId: string | null; value: number | null }>(
    em,
    `select clouds.id as "cloudId", clouds.system, quota_limits.quota_id as "quotaId", quota_limits.value::float8 as value
     from clouds left join quota_limits on quota_limits.cloud_id = clouds.id and quota_limits.quota_id = any ($2::text[])
     where clouds.id = ${isFolder ? '(select cloud_id from folders where id = $1)' : '$1'}`,
    [placeId, quotas.map(({ id }) => id)],
  );
  const [first] = rows;
  if (first === undefined) throw notFound(isFolder ? 'Folder' : 'Cloud', placeId);
  const limits = new Map<string, number>();
  if (first.system) return { cloudId: first.cloudId, limits };
  for (const { id, defaultLimit } of quotas) {
    const set = rows.find(({ quotaId }) => quotaId === id);
    if (set === undefined) limits.set(id, defaultLimit);
    else if (set.value !== null) limits.set(id, set.value);
  }
  return { cloudId: first.cloudId, limits };
}

export interface QuotaState {
  quotaId: string;
  /** Undefined: no limit. */
  limit: number | undefined;
  usage: number;
}

/** What is used, all at one moment, and what may be. @throws DomainError NOT_FOUND of the cloud. */
export async function quotaStates(em: EntityManager, quotas: readonly Quota[], cloudId: string): Promise<QuotaState[]> {
  const { limits } = await limitsAt(em, { cloudId }, quotas);
  const usages = await usagesOf(em, quotas, { cloudId });
  return quotas.map(({ id }) => ({ quotaId: id, limit: limits.get(id), usage: usages[id]! }));
}

/** Reservations in the cloud, and changes of its limits, happen one after another: held until the transaction ends. */
export const lockQuotas = (em: EntityManager, cloudId: string): Promise<unknown> =>
  query(em, 'select pg_advisory_xact_lock(hashtextextended($1, 0))', [`quotas/${cloudId}`]);

/** What to make of a limit: a number in the quota's unit, none at all, or what it was before anybody set it. */
export type NewLimit = number | 'unlimited' | 'default';

/**
 * Sets the limit, in a transaction of its own. One below what is used is kept: it refuses what comes, and takes nothing away. (What had
 * begun while there was no limit at all may still come in addition.)
 * @throws DomainError NOT_FOUND, INVALID_ARGUMENT, FAILED_PRECONDITION for the system cloud.
 */
export async function setLimit(
  em: EntityManager,
  quota: Quota,
  cloudId: string,
  limit: NewLimit,
  beforeCommit?: (em: EntityManager) => Promise<unknown>,
): Promise<QuotaState> {
  if (typeof limit === 'number' && (!Number.isSafeInteger(limit) || limit < 0)) {
    throw invalidArgument('limit', `must be a whole number from 0 to ${Number.MAX_SAFE_INTEGER}, not ${limit}`);
  }
  return em.fork().transactional(async (inner) => {
    const { system } = await requireCloud(inner, cloudId);
    if (system) throw new DomainError('FAILED_PRECONDITION', `Cloud ${cloudId} belongs to everybody: it has no limits`);
    await lockQuotas(inner, cloudId);
    if (limit === 'default') await inner.nativeDelete(QuotaLimit, { cloudId, quotaId: quota.id });
    else {
      const value = limit === 'unlimited' ? null : limit;
      await inner.upsert(QuotaLimit, { cloudId, quotaId: quota.id, value, modifiedAt: new Date() });
    }
    await beforeCommit?.(inner);
    const [state] = await quotaStates(inner, [quota], cloudId);
    return state!;
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
