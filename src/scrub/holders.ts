// Who needs the data of a layer: rows whose layer it is, operations under way that have it pinned, and sessions of block access that read
// from it.
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import { layerTables, type LayerHolderKind } from '../gc/roots.ts';

export interface LayerHolder {
  kind: LayerHolderKind | 'operation' | 'session';
  id: string;
  folderId: string;
  /** May be empty; an operation's description; the id of what a session has open. */
  name: string;
}

const holders = [
  ...Object.entries(layerTables).map(
    ([kind, table]) => `select '${kind}' as kind, id, folder_id, name from ${table} where layer_root = any ($1::text[])`,
  ),
  `select 'operation', id, folder_id, description from jobs join operations on operations.id = jobs.operation_id
   where jobs.pinned_roots && $1::text[]`,
  `select 'session', id, '', resource_id from attach_sessions where base_root = any ($1::text[])`,
].join(' union all ');

/** All that hold one of the layers, by kind and id. */
export const listHolders = (em: EntityManager, roots: readonly string[]): Promise<LayerHolder[]> =>
  query<LayerHolder>(em, `select kind, id, folder_id as "folderId", name from (${holders}) as holders order by kind, id`, [
    roots,
  ]);
