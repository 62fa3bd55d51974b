// What limit holds for a cloud, and how it is set.
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import { requireCloud } from '../iam/hierarchy/require-cloud.ts';
import { DomainError, invalidArgument, notFound } from '../platform/errors.ts';
import { type Quota, usageInCloud } from './quota.ts';
import { QuotaLimit } from './quota-limit.entity.ts';

export interface CloudLimits {
  cloudId: string;
  limits: Map<string, number>;
}

/**
 * The cloud of a folder, and what limits hold there of these quotas, by id; one that is not in the map has no limit.
 * @throws DomainError NOT_FOUND.
 */
export async function limitsWhere(em: EntityManager, folderId: string, quotas: readonly Quota[]): Promise<CloudLimits> {
  const limits = await readLimits(em, 'folders join clouds on clouds.id = folders.cloud_id', 'folders.id', folderId, quotas);
  if (limits === undefined) throw notFound('Folder', folderId);
  return limits;
}

/** Likewise of a cloud. @throws DomainError NOT_FOUND. */
export async function limitsOfCloud(em: EntityManager, cloudId: string, quotas: readonly Quota[]): Promise<CloudLimits> {
  const limits = await readLimits(em, 'clouds', 'clouds.id', cloudId, quotas);
  if (limits === undefined) throw notFound('Cloud', cloudId);
  return limits;
}

async function readLimits(
  em: EntityManager,
  place: string,
  key: string,
  placeId: string,
  quotas: readonly Quota[],
): Promise<CloudLimits | undefined> {
  const rows = await query<{ cloudId: string; system: boolean; quotaId: string | null; value: number | null }>(
    em,
    `select clouds.id as "cloudId", clouds.system, quota_limits.quota_id as "quotaId", quota_limits.value::float8 as value
     from ${place}
     left join quota_limits on quota_limits.cloud_id = clouds.id and quota_limits.quota_id = any ($2::text[])
     where ${key} = $1`,
    [placeId, quotas.map(({ id }) => id)],
  );
  const [first] = rows;
  if (first === undefined) return undefined;
  const limits = new Map<string, number>();
  if (first.system) return { cloudId: first.cloudId, limits };
  for (const { id, defaultLimit } of quotas) {
    const set = rows.find(({ quotaId }) => quotaId === id);
    if (set === undefined) limits.set(id, defaultLimit);
    else if (set.value !== null) limits.set(id, set.value);
  }
  return { cloudId: first.cloudId, limits };
}

/** Reservations in the cloud, and changes of its limits, happen one after another: held until the transaction ends. */
export const lockQuotas = (em: EntityManager, cloudId: string): Promise<unknown> =>
  query(em, 'select pg_advisory_xact_lock(hashtextextended($1, 0))', [`quotas/${cloudId}`]);

/** In the quota's unit; undefined: no limit. The system cloud, which holds what belongs to everybody, has none. */
async function limitOf(em: EntityManager, quota: Quota, cloudId: string): Promise<number | undefined> {
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
  return { quotaId: quota.id, limit: await limitOf(em, quota, cloudId), usage: await usageInCloud(em, quota, cloudId) };
}

/** What to make of a limit: a number in the quota's unit, none at all, or what it was before anybody set it. */
export type NewLimit = number | 'unlimited' | 'default';

/**
 * Sets the limit, in a transaction of its own. One below what is used is kept: it refuses what comes, and takes nothing away. (What had
 * begun while there was no limit at all may still come in addition.)
 * @throws DomainError NOT_FOUND, INVALID_ARGUMENT, FAILED_PRECONDITION for the system cloud.
 */
export async function setLimit(em: EntityManager, quota: Quota, cloudId: string, limit: NewLimit): Promise<QuotaState> {
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
