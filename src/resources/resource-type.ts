// What images, disks and snapshots have in common as rows, and what tells one kind from another where the rules are the same.
import type { EntityName } from '@mikro-orm/core';
import type { ResourceStatus } from './status.ts';

export interface StoredResource {
  id: string;
  folderId: string;
  name: string;
  description: string;
  labels: Record<string, string>;
  status: ResourceStatus;
}

export interface ResourceType<Entity extends StoredResource> {
  /** As messages name it. */
  readonly noun: 'Image' | 'Disk' | 'Snapshot';
  readonly entity: EntityName<Entity>;
  readonly table: string;
  readonly kind: 'compute.image' | 'compute.disk' | 'compute.snapshot';
  /** Permissions are `<permissions>.<verb>`. */
  readonly permissions: 'compute.images' | 'compute.disks' | 'compute.snapshots';
}

/** The resource as authorize asks for it. */
export const resourceOf = <Entity extends StoredResource>(
  { kind }: ResourceType<Entity>,
  { id, folderId }: Pick<Entity, 'id' | 'folderId'>,
) => ({ kind, id, folderId }) as const;

/** `Create image`: how an operation on it is described. */
export const describeOperation = (verb: string, { noun }: Pick<ResourceType<StoredResource>, 'noun'>): string =>
  `${verb} ${noun.toLowerCase()}`;
