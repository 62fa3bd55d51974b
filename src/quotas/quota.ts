// What a quota is. Each resource declares its own beside its entity (`src/images/image-quotas.ts`) and reserves it in the transaction that
// makes the row; usage is always what the rows say, so nothing has to be given back: it is released when the row goes.
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';

export interface Quota {
  /** `compute.diskPools.count`: the service, what is counted, the unit. `count` is things, `size` bytes. */
  id: string;
  /** Of a cloud whose limit nobody has set. */
  defaultLimit: number;
  usage: Usage;
}

/** How it is told what a cloud uses. */
export type Usage = UsageOfRows | UsageBySql;

interface UsageOfRows {
  /** Its rows name their `folder_id`. */
  table: string;
  /** An aggregate over its rows in the folders of the cloud. */
  aggregate: string;
}

interface UsageBySql {
  /** SQL that answers one number: of cloud $1. */
  ofCloud: string;
  /** Where the limit of the cloud holds for each of its folders by itself: of folder $2. Then `ofCloud` is the most of any folder. */
  ofFolder?: string;
}

export const GiB = 1024 ** 3;

/** The service that keeps a quota: what stands before the first dot of its id. */
export const serviceOf = ({ id }: Quota): string => id.slice(0, id.indexOf('.'));

/**
 * What is used now, by the quota's id, all at one moment. `folderId`: what counts when something is made in that folder of the cloud;
 * without it, what the cloud is told.
 */
export async function usagesOf(
  em: EntityManager,
  quotas: readonly Quota[],
  { cloudId, folderId }: { cloudId: string; folderId?: string },
): Promise<Record<string, number>> {
  const sql = usagesSql(quotas, folderId === undefined ? 'cloud' : 'folder');
  const [row] = await query<Record<string, number>>(em, sql, [cloudId, folderId ?? null]);
  return row!;
}

/** The statement of usagesOf, exported for the look at its plan. The rows of a table are read once for all that counts them. */
export function usagesSql(quotas: readonly Quota[], place: 'cloud' | 'folder'): string {
  const byTable = new Map<string, string[]>();
  const columns: string[] = [];
  for (const { id, usage } of quotas) {
    if ('table' in usage) {
      const aggregates = byTable.get(usage.table) ?? [];
      byTable.set(usage.table, [...aggregates, `(${usage.aggregate})::float8 as "${id}"`]);
      columns.push(`"${id}"`);
    } else {
      const sql = place === 'folder' ? (usage.ofFolder ?? usage.ofCloud) : usage.ofCloud;
      columns.push(`(${sql})::float8 as "${id}"`);
    }
  }
  const tables = Array.from(
    byTable,
    ([table, aggregates]) => `
      cross join (
        select ${aggregates.join(', ')} from ${table} where folder_id = any (array(select id from folders where cloud_id = $1))
      ) as the_${table}`,
  );
  return `select ${columns.join(', ')} from (select $1::text, $2::text) as place ${tables.join('')}`;
}
