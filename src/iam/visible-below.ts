// What a caller sees of what lies in a folder or a cloud: all of it with a role there; else what is shared with him one by one. Who sees none
// is told what everybody is told of a place that he may not look into.
import type { EntityName, FilterQuery } from '@mikro-orm/core';
import { DomainError } from '../platform/errors.ts';
import { authenticated, authorize } from './authorize.ts';
import type { Call } from './call.ts';
import type { Permission } from './permissions.ts';
import type { Resource, ResourceKind } from './resource.ts';
import { sharedWith } from './shared-with.ts';

export interface Below<Entity> {
  parent: Resource;
  /** On the parent: to see all that lies in it. */
  permission: Permission;
  /** On one of them: to see that one. Default: the same. */
  ofOne?: Permission;
  entity: EntityName<Entity>;
  kind: ResourceKind;
  /** What lies in the parent. */
  scope: FilterQuery<Entity>;
}

/**
 * The condition that rows of the scope must meet; undefined: the caller sees all of them.
 * @throws DomainError PERMISSION_DENIED, NOT_FOUND as authorize does, when he sees none.
 */
export async function visibleBelow<Entity extends object>(
  call: Call,
  { parent, permission, ofOne = permission, entity, kind, scope }: Below<Entity>,
): Promise<FilterQuery<Entity> | undefined> {
  try {
    // Roles on a folder that is not there allow nothing: it need not be read again.
    await authorize(call, permission, parent);
    return undefined;
  } catch (error) {
    if (!(error instanceof DomainError) || error.code !== 'PERMISSION_DENIED') throw error;
    const shared = sharedWith<Entity>(authenticated(call), ofOne, kind);
    const where = { $and: [scope, shared] } as FilterQuery<NoInfer<Entity>>;
    if ((await call.em.findOne(entity, where, { disableIdentityMap: true })) === null) throw error;
    return shared;
  }
}
