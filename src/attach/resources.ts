// What can be opened: disks, images and snapshots, found by id alone, since that is all that a client names.
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import type { Subject } from '../iam/call.ts';
import type { Permission } from '../iam/permissions.ts';
import { principalsOf } from '../iam/principals.ts';
import type { ResourceKind } from '../iam/resource.ts';
import { rolesWith } from '../iam/roles.ts';
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

/** `condition` of each kind, in the order of the kinds. */
const select = (condition: (kind: AttachableKind) => string, tail = ''): string => `
  (select 'disk' as kind, id, folder_id as "folderId", name, size::float8 as "sizeBytes", status, layer_root as "layerRoot",
     machine_id as "machineId" from disks where ${condition('disk')} ${tail})
  union all
  (select 'image', id, folder_id, name, size::float8, status, layer_root, null from images where ${condition('image')} ${tail})
  union all
  (select 'snapshot', id, folder_id, name, disk_size::float8, status, layer_root, null from snapshots where ${condition('snapshot')} ${tail})`;

/** Those of the ids that are there. */
export const findAttachables = (em: EntityManager, ids: readonly string[]): Promise<Attachable[]> =>
  query<Attachable>(
    em,
    select(() => 'id = any ($1::text[])'),
    [ids],
  );

/** Parameters: the subject's names, and the roles that let him open each kind by its bare id. */
const rolesOf: Record<AttachableKind, string> = { disk: '$3', image: '$4', snapshot: '$5' };

const boundTo = (kind: ResourceKind, roles: string): string => `
  select resource_id from access_bindings where resource_kind = '${kind}'
    and (subject_id, subject_type) in (select * from unnest($1::text[], $2::text[])) and role_id = any (${roles}::text[])`;

const isReachable = (kind: AttachableKind): string => `
  status = 'READY' and (
    id in (${boundTo(`compute.${kind}`, rolesOf[kind])})
    or folder_id in (select id from folders where id in (${boundTo('resource-manager.folder', rolesOf[kind])})
                       or cloud_id in (${boundTo('resource-manager.cloud', rolesOf[kind])})))`;

/** The newest that are READY and that a role of the subject's lets him open: disks for writing. */
export function listAttachables(em: EntityManager, subject: Subject): Promise<Attachable[]> {
  const principals = principalsOf(subject);
  return query<Attachable>(em, select(isReachable, `order by created_at desc limit ${maxListed}`), [
    principals.map(({ id }) => id),
    principals.map(({ type }) => type),
    rolesWith(permissionTo('disk', 'READ_WRITE')),
    rolesWith(permissionTo('image', 'READ_ONLY')),
    rolesWith(permissionTo('snapshot', 'READ_ONLY')),
  ]);
}

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
