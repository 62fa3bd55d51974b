import type { EntityName, FilterQuery } from '@mikro-orm/core';
import type { Call } from '../iam/call.ts';
import type { ResourceKind } from '../iam/resource.ts';
import { visibleBelow } from '../iam/visible-below.ts';

/** A kind of things that lie in folders. */
export interface Listed<Entity extends { id: string; folderId: string }> {
  entity: EntityName<Entity>;
  kind: ResourceKind;
  permissions: 'compute.images' | 'compute.disks' | 'compute.snapshots' | 'iam.serviceAccounts';
}

/** What the caller sees of the kind in a folder: as visibleBelow. */
export const visibleIn = <Entity extends { id: string; folderId: string }>(
  call: Call,
  { entity, kind, permissions }: Listed<Entity>,
  verb: 'get' | 'list',
  folderId: string,
): Promise<FilterQuery<Entity> | undefined> =>
  visibleBelow(call, {
    parent: { kind: 'resource-manager.folder', id: folderId },
    permission: `${permissions}.${verb}`,
    entity,
    kind,
    scope: { folderId } as FilterQuery<Entity>,
  });
