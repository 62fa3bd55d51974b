// The one question that every method asks before it does anything: may this caller do this to that? Roles are not enforced yet: each
// authenticated service account of this installation may do everything. Roles, bindings and their inheritance (cloud → folder →
// resource) find their place in `isAllowed`; no caller changes then.
import { permissionDenied, unauthenticated } from '../platform/errors.ts';
import type { Call, Subject } from './call.ts';
import type { Permission } from './permissions.ts';
import type { Resource } from './resource.ts';

/** Who asks, and where bindings are read: a call, or a job that checks again on behalf of the one who started it. */
export type Caller = Pick<Call, 'subject' | 'em'>;

/**
 * `await authorize(call, 'compute.images.create', { kind: 'resource-manager.folder', id: folderId })`.
 * @throws DomainError UNAUTHENTICATED without a subject, PERMISSION_DENIED when no role allows it.
 */
export async function authorize(caller: Caller, permission: Permission, resource: Resource): Promise<Subject> {
  const subject = authenticated(caller);
  if (!isAllowed(subject, permission, resource)) throw permissionDenied(`Permission denied to ${describe(resource)}`);
  return subject;
}

/** For methods that every authenticated caller may call. @throws DomainError UNAUTHENTICATED. */
export function authenticated({ subject }: Caller): Subject {
  if (subject === undefined) throw unauthenticated();
  return subject;
}

const isAllowed = (subject: Subject, _permission: Permission, _resource: Resource): boolean => subject.type === 'serviceAccount';

/** `folder b1g…`, as the public service words it. */
const describe = ({ kind, id }: Resource): string => `${kind.slice(kind.indexOf('.') + 1)} ${id}`;
