// Reading the row that a method is about. Rows are locked before names (unique-name.ts), so that no two transactions wait for each
// other.
import { type FilterQuery, LockMode } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { authorizeIn } from '../iam/authorize.ts';
import type { Call } from '../iam/call.ts';
import { DomainError, notFound } from '../platform/errors.ts';
import { resourceOf, type ResourceType, type StoredResource } from './resource-type.ts';
import { assertReady } from './status.ts';

/** @throws DomainError NOT_FOUND. */
export const requireResource = <Entity extends StoredResource>(
  em: EntityManager,
  type: ResourceType<Entity>,
  id: string,
): Promise<Entity> => find(em, type, id, LockMode.NONE);

/** The row, locked against every other change until the transaction ends. @throws DomainError NOT_FOUND. */
export const lockResource = <Entity extends StoredResource>(
  em: EntityManager,
  type: ResourceType<Entity>,
  id: string,
): Promise<Entity> => find(em, type, id, LockMode.PESSIMISTIC_WRITE);

/**
 * As lockResource, for what the caller was authorized to change where it was then.
 * @throws DomainError NOT_FOUND; ABORTED when it has been moved to another folder since.
 */
export async function lockAuthorized<Entity extends StoredResource>(
  em: EntityManager,
  type: ResourceType<Entity>,
  { id, folderId }: Pick<Entity, 'id' | 'folderId'>,
): Promise<Entity> {
  const row = await lockResource(em, type, id);
  if (row.folderId !== folderId)
    throw new DomainError('ABORTED', `${type.noun} ${id} is being moved to another folder: try again`);
  return row;
}

/**
 * What something else is made of: READY, the caller may use it, and held until the new thing is committed. The default lock lets others
 * use it as well, and holds back its delete.
 * @throws DomainError NOT_FOUND, PERMISSION_DENIED, FAILED_PRECONDITION.
 */
export async function lockSource<Entity extends StoredResource>(
  em: EntityManager,
  call: Call,
  type: ResourceType<Entity>,
  id: string,
  lockMode = LockMode.PESSIMISTIC_READ,
): Promise<Entity> {
  // Asked before the lock: who may not see it neither waits for others nor makes them wait.
  const seen = await em.findOne(type.entity, { id } as FilterQuery<NoInfer<Entity>>, { disableIdentityMap: true });
  if (seen === null) throw notFound(type.noun, id);
  await authorizeIn(em, call, `${type.permissions}.use`, resourceOf(type, seen));
  const source = await find(em, type, id, lockMode);
  if (source.folderId !== seen.folderId) await authorizeIn(em, call, `${type.permissions}.use`, resourceOf(type, source));
  assertReady(type.noun, source);
  return source;
}

async function find<Entity extends StoredResource>(
  em: EntityManager,
  { noun, entity }: ResourceType<Entity>,
  id: string,
  lockMode: LockMode,
): Promise<Entity> {
  const row = await em.findOne(entity, { id } as FilterQuery<NoInfer<Entity>>, { lockMode });
  if (row === null) throw notFound(noun, id);
  return row;
}
