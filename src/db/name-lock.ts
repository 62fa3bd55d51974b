import type { EntityManager } from '@mikro-orm/postgresql';

/**
 * Serialises the transactions that give the name `name` to something in one folder (or cloud, or organization), so that a look before the
 * insert is enough to answer ALREADY_EXISTS. (The unique index below stays the guard of the data.) Held until the transaction ends.
 */
export async function lockName(em: EntityManager, table: string, parentId: string, name: string): Promise<void> {
  await em.execute('select pg_advisory_xact_lock(hashtextextended(?, 0))', [`name/${table}/${parentId}/${name}`]);
}
