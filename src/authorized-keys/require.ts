// The key that a method is about, for who may know of it; and the account that keys are listed of or made for.
import { LockMode } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { authenticated, authorize } from '../iam/authorize.ts';
import { AuthorizedKey } from '../iam/authorized-key.entity.ts';
import type { Call } from '../iam/call.ts';
import type { Permission } from '../iam/permissions.ts';
import type { ServiceAccount } from '../iam/service-account.entity.ts';
import { DomainError, invalidArgument, notFound } from '../platform/errors.ts';
import { requireAccount, resourceOf } from '../service-accounts/require.ts';

export interface AuthorizedFor {
  key: AuthorizedKey;
  account: ServiceAccount;
}

/** @throws DomainError NOT_FOUND when there is no such key, or the caller may not see it; PERMISSION_DENIED. */
export async function requireKey(call: Call, id: string, permission: Permission): Promise<AuthorizedFor> {
  const key = await call.em.findOne(AuthorizedKey, { id });
  if (key === null) throw notFound('Key', id);
  const account = await requireAccount(call.em, key.serviceAccountId);
  try {
    await authorize(call, 'iam.keys.get', resourceOf(account));
  } catch (error) {
    const isHidden = error instanceof DomainError && (error.code === 'PERMISSION_DENIED' || error.code === 'NOT_FOUND');
    throw isHidden ? notFound('Key', id) : error;
  }
  if (permission !== 'iam.keys.get') await authorize(call, permission, resourceOf(account));
  return { key, account };
}

/** Locked against every other change until the transaction ends. @throws DomainError NOT_FOUND. */
export async function lockKey(em: EntityManager, id: string): Promise<AuthorizedKey> {
  const key = await em.findOne(AuthorizedKey, { id }, { lockMode: LockMode.PESSIMISTIC_WRITE });
  if (key === null) throw notFound('Key', id);
  return key;
}

/**
 * The account whose keys are meant: the named one, or the caller's own.
 * @throws DomainError NOT_FOUND when there is none, or the caller may not see it; PERMISSION_DENIED; INVALID_ARGUMENT when a caller that
 * is no service account names none.
 */
export async function requireOwner(call: Call, serviceAccountId: string, permission: Permission): Promise<ServiceAccount> {
  const caller = authenticated(call);
  if (serviceAccountId === '' && caller.type !== 'serviceAccount') {
    throw invalidArgument('service_account_id', `must not be empty: a ${caller.type} has no authorized keys`);
  }
  const account = await requireAccount(call.em, serviceAccountId === '' ? caller.id : serviceAccountId);
  await authorize(call, 'iam.serviceAccounts.get', resourceOf(account));
  await authorize(call, permission, resourceOf(account));
  return account;
}
