import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import type { Folder } from '../iam/hierarchy/folder.entity.ts';
import { failedPrecondition, notFound } from '../platform/errors.ts';

/**
 * The folder, in a transaction that puts something into it: the folder cannot be deleted before that transaction has ended, nor can
 * anything be put into it once its delete has begun. Holders do not wait for each other.
 * @throws DomainError NOT_FOUND, FAILED_PRECONDITION when it is being deleted.
 */
export async function holdFolder(em: EntityManager, id: string): Promise<Pick<Folder, 'id' | 'cloudId'>> {
  const [folder] = await query<Pick<Folder, 'cloudId' | 'status'>>(
    em,
    `select cloud_id as "cloudId", status from folders where id = $1 for key share`,
    [id],
  );
  if (folder === undefined) throw notFound('Folder', id);
  if (folder.status !== 'ACTIVE') throw failedPrecondition(`Folder ${id} is ${folder.status}: nothing can be put into it`);
  return { id, cloudId: folder.cloudId };
}
