// Reading the account that a method is about.
import { LockMode } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import type { Resource } from '../iam/resource.ts';
import { Installation } from '../iam/installation.entity.ts';
import { ServiceAccount } from '../iam/service-account.entity.ts';
import { failedPrecondition, notFound } from '../platform/errors.ts';

/** @throws DomainError NOT_FOUND. */
export const requireAccount = (em: EntityManager, id: string): Promise<ServiceAccount> => find(em, id, LockMode.NONE);

/** The row, locked against every other change and against new keys until the transaction ends. @throws DomainError NOT_FOUND. */
export const lockAccount = (em: EntityManager, id: string): Promise<ServiceAccount> => find(em, id, LockMode.PESSIMISTIC_WRITE);

/** As authorize asks for it. */
export const resourceOf = ({ id, folderId }: Pick<ServiceAccount, 'id' | 'folderId'>): Resource => ({
  kind: 'iam.serviceAccount',
  id,
  folderId,
});

/** @throws DomainError FAILED_PRECONDITION for the account of the first start: the service is administered in its name. */
export async function assertNotOperator(em: EntityManager, { id }: ServiceAccount, deed: string): Promise<void> {
  if ((await em.count(Installation, { serviceAccountId: id })) > 0) {
    throw failedPrecondition(`Service account ${id} administers this installation: it cannot ${deed}`);
  }
}

async function find(em: EntityManager, id: string, lockMode: LockMode): Promise<ServiceAccount> {
  const account = await em.findOne(ServiceAccount, { id }, { lockMode });
  if (account === null) throw notFound('Service account', id);
  return account;
}
