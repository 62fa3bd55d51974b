// What a caller sees of the images, disks, snapshots or accounts of a folder: all of them with a role on the folder or its cloud; else those that
// are shared with him one by one. Who sees none is told what everybody is told of a folder that he may not look into.
import type { EntityName, FilterQuery } from '@mikro-orm/core';
import { authenticated, authorize } from '../iam/authorize.ts';
import type { Call } from '../iam/call.ts';
import type { Permission } from '../iam/permissions.ts';
import type { ResourceKind } from '../iam/resource.ts';
import { sharedWith } from '../iam/shared-with.ts';
import { DomainError } from '../platform/errors.ts';

/** A kind of things that lie in folders. */
export interface Listed<Entity extends { id: string; folderId: string }> {
  entity: EntityName<Entity>;
  kind: ResourceKind;
  permissions: 'compute.images' | 'compute.disks' | 'compute.snapshots' | 'iam.serviceAccounts';
}

/**
 * The condition that rows of the folder must meet; undefined: the caller sees all of them.
 * @throws DomainError PERMISSION_DENIED, NOT_FOUND as authorize does.
 */
export async function visibleIn<Entity extends { id: string; folderId: string }>(
  call: Call,
  { entity, kind, permissions }: Listed<Entity>,
  verb: 'get' | 'list',
  folderId: string,
): Promise<FilterQuery<Entity> | undefined> {
  const permission: Permission = `${permissions}.${verb}`;
  try {
    // Roles on a folder that is not there allow nothing: it need not be read again.
    await authorize(call, permission, { kind: 'resource-manager.folder', id: folderId });
  } catch (error) {
    if (!(error instanceof DomainError) || error.code !== 'PERMISSION_DENIED') throw error;
    const shared = sharedWith<Entity>(authenticated(call), permission, kind);
    const any = await call.em.findOne(entity, { $and: [{ folderId }, shared] } as FilterQuery<NoInfer<Entity>>, {
      disableIdentityMap: true,
    });
    if (any === null) throw error;
    return shared;
  }
  return undefined;
}
