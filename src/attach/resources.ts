// What can be opened: disks, images and snapshots, found by id alone, since that is all that a client names.
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import type { Permission } from '../iam/permissions.ts';
import type { ResourceStatus } from '../resources/status.ts';
import type { SessionMode } from './attach-session.entity.ts';

export type AttachableKind = 'disk' | 'image' | 'snapshot';

export interface Attachable {
  kind: AttachableKind;
  id: string;
  folderId: string;
  name: string;
  /** Virtual size. */
  sizeBytes: number;
  status: ResourceStatus;
  /** Null: zeros. */
  layerRoot: string | null;
  /** Of a disk: who holds what is not in its base yet. */
  machineId: string | null;
}

/** Exports that LIST names at most, of each kind. */
const maxListed = 300;

const select = (condition: string, tail = ''): string => `
  (select 'disk' as kind, id, folder_id as "folderId", name, size::float8 as "sizeBytes", status, layer_root as "layerRoot",
     machine_id as "machineId" from disks where ${condition} ${tail})
  union all
  (select 'image', id, folder_id, name, size::float8, status, layer_root, null from images where ${condition} ${tail})
  union all
  (select 'snapshot', id, folder_id, name, disk_size::float8, status, layer_root, null from snapshots where ${condition} ${tail})`;

/** Those of the ids that are there. */
export const findAttachables = (em: EntityManager, ids: readonly string[]): Promise<Attachable[]> =>
  query<Attachable>(em, select('id = any ($1::text[])'), [ids]);

/** The newest that are READY. */
export const listAttachables = (em: EntityManager): Promise<Attachable[]> =>
  query<Attachable>(em, select(`status = 'READY'`, `order by created_at desc limit ${maxListed}`));

/** Holds a READY image or snapshot against being deleted until the transaction ends. False: it is gone. */
export async function lockReady(em: EntityManager, { kind, id }: Attachable): Promise<boolean> {
  const table = { disk: 'disks', image: 'images', snapshot: 'snapshots' }[kind];
  const rows = await query(em, `select id from ${table} where id = $1 and status = 'READY' for share`, [id]);
  return rows.length > 0;
}

/** `Disk epd…`, as messages name it. */
export const describe = ({ kind, id }: Pick<Attachable, 'kind' | 'id'>): string =>
  `${kind[0]!.toUpperCase()}${kind.slice(1)} ${id}`;

export const permissionTo = (kind: AttachableKind, mode: SessionMode): Permission => {
  if (kind === 'disk') return mode === 'READ_WRITE' ? 'compute.disks.attach' : 'compute.disks.use';
  return kind === 'image' ? 'compute.images.use' : 'compute.snapshots.use';
};
