// Of many resources of a kind, those on which the subject has a role of their own that allows something: what lists show to who has no role
// on what the resources lie in. One condition, answered by the index over subjects.
import { type FilterQuery, raw } from '@mikro-orm/core';
import type { Subject } from './call.ts';
import type { Permission } from './permissions.ts';
import { principalsOf } from './principals.ts';
import type { ResourceKind } from './resource.ts';
import { rolesWith } from './roles.ts';

/** A condition on an entity whose id is that of the resource. */
export function sharedWith<Entity>(subject: Subject, permission: Permission, kind: ResourceKind): FilterQuery<Entity> {
  const principals = principalsOf(subject);
  const roles = rolesWith(permission);
  const condition = (alias: string): string =>
    `${alias}.id in (select resource_id from access_bindings where resource_kind = ? ` +
    `and (subject_id, subject_type) in (${principals.map(() => '(?, ?)').join(', ')}) and role_id in (${roles.map(() => '?').join(', ')}))`;
  const values = [kind, ...principals.flatMap(({ id, type }) => [id, type]), ...roles];
  return { [raw(condition, values)]: [] } as FilterQuery<Entity>;
}
