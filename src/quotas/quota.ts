// What a quota is. Each resource declares its own beside its entity (`src/images/image-quotas.ts`) and reserves it in the transaction that
// makes the row; usage is always what the rows say, so nothing has to be given back: it is released when the row goes.
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';

export interface Quota {
  /** `compute.diskPools.count`: the service, what is counted, the unit. `count` is things, `size` bytes. */
  id: string;
  /** Of a cloud whose limit nobody has set. */
  defaultLimit: number;
  /** SQL that answers one number, float8: what the rows of cloud $1 use now. */
  usage: string;
  /** Where the limit of the cloud holds for each of its folders by itself: the same of folder $2. `usage` is then the most of any folder. */
  usageOfFolder?: string;
}

export const GiB = 1024 ** 3;

/** The service that keeps a quota: what stands before the first dot of its id. */
export const serviceOf = ({ id }: Quota): string => id.slice(0, id.indexOf('.'));

/** What the rows of `table` use in a cloud: how many they are, or the sum of an expression over them. */
export const usageOfRows = (table: string, amount: 'rows' | { sum: string }, condition = 'true'): string => `
  select ${amount === 'rows' ? 'count(*)' : `coalesce(sum(${amount.sum}), 0)`}::float8
  from folders join ${table} on ${table}.folder_id = folders.id
  where folders.cloud_id = $1 and ${condition}`;

/**
 * What is used now, by the quota's id, all at one moment. `folderId`: what counts when something is made in that folder of the cloud;
 * without it, what the cloud is told.
 */
export async function usagesOf(
  em: EntityManager,
  quotas: readonly Quota[],
  { cloudId, folderId }: { cloudId: string; folderId?: string },
): Promise<Record<string, number>> {
  const columns = quotas.map(({ id, usage, usageOfFolder }) => {
    const sql = folderId === undefined ? usage : (usageOfFolder ?? usage);
    return `(${sql}) as "${id}"`;
  });
  const [row] = await query<Record<string, number>>(
    em,
    `select ${columns.join(', ')} from (select $1::text, $2::text) as the_place`,
    [cloudId, folderId ?? null],
  );
  return row!;
}
