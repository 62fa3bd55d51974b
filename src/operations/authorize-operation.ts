// Who may see or stop an operation: the one who started it, and whoever may see the operations of what it is about. It stays so when that
// resource is gone: roles on its folder count.
import { authenticated } from '../iam/authorize.ts';
import type { Call } from '../iam/call.ts';
import type { Permission } from '../iam/permissions.ts';
import { type Resource, resourceOfKind } from '../iam/resource.ts';
import { notFound, permissionDenied } from '../platform/errors.ts';
import type { Operation } from './operation.entity.ts';

/** @throws DomainError NOT_FOUND when the caller may not see it, PERMISSION_DENIED when he may not cancel it. */
export async function authorizeOperation(
  call: Pick<Call, 'subject' | 'access'>,
  verb: 'get' | 'cancel',
  { id, createdBy, resourceKind, resourceId, folderId }: Operation,
): Promise<void> {
  const subject = authenticated(call);
  const resource = resourceOfKind(resourceKind, resourceId, folderId);
  const may = (permission: Permission) => call.access.isAllowed(subject, permission, resource);
  const { get, cancel } = permissionsAbout(resource);
  if (createdBy !== subject.id && !(await may(get))) throw notFound('Operation', id);
  if (verb === 'cancel' && !(await may(cancel))) throw permissionDenied(`Permission denied to operation ${id}`);
}

/** Operations of compute have permissions of their own (facts, section 3.1). */
function permissionsAbout({ kind }: Resource): { get: Permission; cancel: Permission } {
  switch (kind) {
    case 'resource-manager.cloud':
      return { get: 'resource-manager.clouds.listOperations', cancel: 'resource-manager.clouds.update' };
    case 'resource-manager.folder':
      return { get: 'resource-manager.folders.listOperations', cancel: 'resource-manager.folders.update' };
    case 'iam.serviceAccount':
      return { get: 'iam.serviceAccounts.listOperations', cancel: 'iam.serviceAccounts.update' };
    case 'compute.image':
    case 'compute.disk':
    case 'compute.snapshot':
    case 'compute.snapshotSchedule':
      return { get: 'compute.operations.get', cancel: 'compute.operations.cancel' };
  }
}
