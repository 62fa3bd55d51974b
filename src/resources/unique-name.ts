import type { FilterQuery } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { lockName } from '../db/name-lock.ts';
import { alreadyExists } from '../platform/errors.ts';
import type { ResourceType, StoredResource } from './resource-type.ts';

/**
 * Names are unique per folder and kind when not empty; a name is free again when the delete of its owner has ended.
 * Call it in the transaction that gives the name, after every row that it locks. @throws DomainError ALREADY_EXISTS.
 */
export async function assertNameFree<Entity extends StoredResource>(
  em: EntityManager,
  { noun, entity, table }: ResourceType<Entity>,
  folderId: string,
  name: string,
): Promise<void> {
  if (name === '') return;
  await lockName(em, table, folderId, name);
  const taken = await em.count(entity, { folderId, name } as FilterQuery<NoInfer<Entity>>);
  if (taken > 0) throw alreadyExists(noun, name, folderId);
}
