// What only the operator of the installation may do: it is asked of the system cloud, which callers cannot change and whose one
// administrator is the account of the first start.
import { authorize } from './authorize.ts';
import type { Call, Subject } from './call.ts';
import { Cloud } from './hierarchy/cloud.entity.ts';
import type { Permission } from './permissions.ts';

/** @throws DomainError UNAUTHENTICATED, PERMISSION_DENIED. */
export async function authorizeOperator(call: Call, permission: Permission): Promise<Subject> {
  const { id } = await call.em.findOneOrFail(Cloud, { system: true });
  return authorize(call, permission, { kind: 'resource-manager.cloud', id });
}
