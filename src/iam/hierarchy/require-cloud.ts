import type { EntityManager } from '@mikro-orm/postgresql';
import { notFound } from '../../platform/errors.ts';
import { Cloud } from './cloud.entity.ts';

/** @throws DomainError NOT_FOUND. */
export async function requireCloud(em: EntityManager, id: string): Promise<Cloud> {
  const cloud = await em.findOne(Cloud, { id });
  if (cloud === null) throw notFound('Cloud', id);
  return cloud;
}
