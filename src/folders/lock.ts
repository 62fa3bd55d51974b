// The row of a folder or cloud, locked until the transaction ends against every other change, and against what is put into it
// (hold-folder.ts, hold-cloud.ts).
import { LockMode } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { Cloud } from '../iam/hierarchy/cloud.entity.ts';
import { Folder } from '../iam/hierarchy/folder.entity.ts';
import { notFound } from '../platform/errors.ts';

/** @throws DomainError NOT_FOUND. */
export async function lockFolder(em: EntityManager, id: string): Promise<Folder> {
  const folder = await em.findOne(Folder, { id }, { lockMode: LockMode.PESSIMISTIC_WRITE });
  if (folder === null) throw notFound('Folder', id);
  return folder;
}

/** @throws DomainError NOT_FOUND. */
export async function lockCloud(em: EntityManager, id: string): Promise<Cloud> {
  const cloud = await em.findOne(Cloud, { id }, { lockMode: LockMode.PESSIMISTIC_WRITE });
  if (cloud === null) throw notFound('Cloud', id);
  return cloud;
}
