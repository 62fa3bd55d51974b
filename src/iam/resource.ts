// The kinds of resources that roles are bound to or inherited by, and how messages and permissions name them.
import type { Permission } from './permissions.ts';

const kinds = {
  'resource-manager.cloud': { noun: 'Cloud', permissions: 'resource-manager.clouds' },
  'resource-manager.folder': { noun: 'Folder', permissions: 'resource-manager.folders' },
  'iam.serviceAccount': { noun: 'Service account', permissions: 'iam.serviceAccounts' },
  'compute.image': { noun: 'Image', permissions: 'compute.images' },
  'compute.disk': { noun: 'Disk', permissions: 'compute.disks' },
  'compute.snapshot': { noun: 'Snapshot', permissions: 'compute.snapshots' },
  'compute.snapshotSchedule': { noun: 'Snapshot schedule', permissions: 'compute.snapshotSchedules' },
} as const;

export type ResourceKind = keyof typeof kinds;

export interface Resource {
  kind: ResourceKind;
  id: string;
  /** The folder that the resource lies in, whose roles it inherits. Not given for folders and clouds. */
  folderId?: string;
}

/** Folders and clouds lie in no folder. */
export const resourceOfKind = (kind: ResourceKind, id: string, folderId: string): Resource =>
  kind.startsWith('resource-manager.') ? { kind, id } : { kind, id, folderId };

/** `Image`, as messages begin with it. */
export const nounOf = (kind: ResourceKind): string => kinds[kind].noun;

/** The permission that lets somebody see a resource of the kind. */
export const seeing = (kind: ResourceKind): Permission => `${kinds[kind].permissions}.get`;

/** The permission that lets somebody see who has which role on a resource of the kind. */
export const seeingBindings = (kind: ResourceKind): Permission => `${kinds[kind].permissions}.listAccessBindings`;

/** Whether the permission is about the resource itself, named by its id; false: about what lies in it, or is made in it. */
export const isAboutItself = (permission: Permission, kind: ResourceKind): boolean => {
  const [, verb] = permission.split(`${kinds[kind].permissions}.`);
  return verb !== undefined && !verb.includes('.') && verb !== 'list' && verb !== 'create';
};
