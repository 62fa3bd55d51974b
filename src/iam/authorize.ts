// The one question that every method asks before it does anything: may this caller do this to that? Access (access-control.ts) knows the
// answer; here it becomes an error that tells nothing to who may know nothing:
//   what is named by its own id and may not be seen is NOT_FOUND, in the words for what is not there;
//   what may be seen, but not that be done to it, is PERMISSION_DENIED;
//   a folder or cloud that something is to be listed or made in is PERMISSION_DENIED, there or not, as the public service words it
//   (docs/decisions/004). An operator, who has a role on the system cloud, is told when there is none.
import type { EntityManager } from '@mikro-orm/postgresql';
import { type DomainError, notFound, permissionDenied, unauthenticated } from '../platform/errors.ts';
import type { AccessRules } from './access-control.ts';
import type { Call, Grant, Subject } from './call.ts';
import { Cloud } from './hierarchy/cloud.entity.ts';
import { Folder } from './hierarchy/folder.entity.ts';
import type { Permission } from './permissions.ts';
import { isAboutItself, nounOf, type Resource, seeing } from './resource.ts';

/** Who asks: a call, or what asks again on behalf of the one who started it. */
export interface Caller extends Pick<Call, 'subject' | 'em' | 'access'> {
  grants?: Grant[];
}

/**
 * `await authorize(call, 'compute.images.create', { kind: 'resource-manager.folder', id: folderId })`. Outside of transactions; within
 * one: authorizeIn.
 * @throws DomainError UNAUTHENTICATED without a subject, PERMISSION_DENIED or NOT_FOUND when no role allows it.
 */
export async function authorize(caller: Caller, permission: Permission, resource: Resource): Promise<Subject> {
  const subject = authenticated(caller);
  const { access } = caller;
  if (!(await access.isAllowed(subject, permission, resource))) throw await denial(caller, permission, resource);
  caller.grants?.push({ permission, resource });
  return subject;
}

/** The same by the rows as they are in a transaction, over its connection. */
export async function authorizeIn(
  em: EntityManager,
  caller: Caller,
  permission: Permission,
  resource: Resource,
): Promise<Subject> {
  const subject = authenticated(caller);
  if (!(await caller.access.isAllowed(subject, permission, resource, em))) {
    throw await denial({ subject, em, access: caller.access }, permission, resource, em);
  }
  caller.grants?.push({ permission, resource });
  return subject;
}

/** For methods that every authenticated caller may call. @throws DomainError UNAUTHENTICATED. */
export function authenticated({ subject }: Pick<Caller, 'subject'>): Subject {
  if (subject === undefined) throw unauthenticated();
  return subject;
}

/**
 * For jobs, on behalf of a call that is long over.
 * @throws DomainError PERMISSION_DENIED when anything of it is not allowed any more, or the account may not act any more.
 */
export async function assertStillGranted(access: AccessRules, subject: Subject, grants: readonly Grant[]): Promise<void> {
  if (!(await access.isActive(subject))) {
    throw permissionDenied(`Service account ${subject.id} may not act any more: it is suspended, has expired or is gone`);
  }
  for (const { permission, resource } of grants) {
    if (!(await access.isAllowed(subject, permission, resource))) throw denied(resource);
  }
}

async function denial(caller: Caller, permission: Permission, resource: Resource, em?: EntityManager): Promise<DomainError> {
  const { kind, id } = resource;
  const subject = authenticated(caller);
  if (isAboutItself(permission, kind)) {
    const isSeen = permission !== seeing(kind) && (await caller.access.isAllowed(subject, seeing(kind), resource, em));
    return isSeen ? denied(resource) : notFound(nounOf(kind), id);
  }
  return (await isUnknownToOperator(caller, subject, resource, em)) ? notFound(nounOf(kind), id) : denied(resource);
}

async function isUnknownToOperator(
  { em: callEm, access }: Caller,
  subject: Subject,
  { kind, id }: Resource,
  em?: EntityManager,
): Promise<boolean> {
  const reader = em ?? callEm.fork();
  const system = await reader.findOne(Cloud, { system: true }, { fields: ['id'] });
  if (system === null) return false;
  const cloud = { kind: 'resource-manager.cloud', id: system.id } as const;
  if (!(await access.isAllowed(subject, seeing(cloud.kind), cloud, em))) return false;
  if (kind === 'resource-manager.folder') return (await reader.count(Folder, { id })) === 0;
  return kind === cloud.kind && (await reader.count(Cloud, { id })) === 0;
}

const denied = ({ kind, id }: Resource): DomainError =>
  permissionDenied(`Permission denied to ${nounOf(kind).toLowerCase()} ${id}`);
