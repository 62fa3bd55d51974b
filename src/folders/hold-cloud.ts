import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import { notFound } from '../platform/errors.ts';

/** As holdFolder: for a transaction that puts a folder into the cloud. @throws DomainError NOT_FOUND. */
export async function holdCloud(em: EntityManager, id: string): Promise<void> {
  const rows = await query(em, 'select id from clouds where id = $1 for key share', [id]);
  if (rows.length === 0) throw notFound('Cloud', id);
}
