// What a quota is. Each resource declares its own beside its entity (`src/images/image-quotas.ts`) and reserves it in the transaction that
// makes the row; usage is always what the rows say, so nothing has to be given back: it is released when the row goes.
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';

export interface Quota {
  /** `compute.diskPools.count`: the service, what is counted, the unit. `count` is things, `size` bytes. */
  id: string;
  /** Of a cloud whose limit nobody has set. */
  defaultLimit: number;
  /** SQL that answers `usage`: what the rows of cloud $1 use now. */
  usage: string;
  /** Where the limit of the cloud holds for each of its folders by itself: the same of folder $1. `usage` is then the most of any folder. */
  usageOfFolder?: string;
}

export const GiB = 1024 ** 3;

/** The service that keeps a quota: what stands before the first dot of its id. */
export const serviceOf = ({ id }: Quota): string => id.slice(0, id.indexOf('.'));

/** What the rows of `table` use in a cloud: how many they are, or the sum of an expression over them. */
export const usageOfRows = (table: string, amount: 'rows' | { sum: string }, condition = 'true'): string => `
  select ${amount === 'rows' ? 'count(*)' : `coalesce(sum(${amount.sum}), 0)`}::float8 as usage
  from folders join ${table} on ${table}.folder_id = folders.id
  where folders.cloud_id = $1 and ${condition}`;

export const usageInCloud = (em: EntityManager, { usage }: Quota, cloudId: string): Promise<number> => ask(em, usage, cloudId);

/** What counts when something is made in the folder, which is of that cloud. */
export const usageWhere = (
  em: EntityManager,
  { usage, usageOfFolder }: Quota,
  { cloudId, folderId }: { cloudId: string; folderId: string },
): Promise<number> => (usageOfFolder === undefined ? ask(em, usage, cloudId) : ask(em, usageOfFolder, folderId));

async function ask(em: EntityManager, sql: string, id: string): Promise<number> {
  const [row] = await query<{ usage: number }>(em, sql, [id]);
  return row!.usage;
}
