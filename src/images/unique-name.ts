import type { EntityManager } from '@mikro-orm/postgresql';
import { lockName } from '../db/name-lock.ts';
import { alreadyExists } from '../platform/errors.ts';
import { Image } from './image.entity.ts';

/**
 * Names are unique per folder when not empty; a name is free again when the delete of its image has ended.
 * Call it in the transaction that gives the name. @throws DomainError ALREADY_EXISTS.
 */
export async function assertNameFree(em: EntityManager, folderId: string, name: string): Promise<void> {
  if (name === '') return;
  await lockName(em, 'images', folderId, name);
  if ((await em.count(Image, { folderId, name })) > 0) throw alreadyExists('Image', name, folderId);
}
