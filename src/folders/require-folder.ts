import type { EntityManager } from '@mikro-orm/postgresql';
import { Folder } from '../iam/hierarchy/folder.entity.ts';
import { notFound } from '../platform/errors.ts';

/** The folder, with its cloud. @throws DomainError NOT_FOUND. */
export async function requireFolder(em: EntityManager, id: string): Promise<Folder> {
  const folder = await em.findOne(Folder, { id });
  if (folder === null) throw notFound('Folder', id);
  return folder;
}
