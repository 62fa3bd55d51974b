// Who may have what open: asked when a ticket is given, when an export is opened, and every few seconds while it is open.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { AccessRules } from '../iam/access-control.ts';
import { activeAt } from '../iam/active-account.ts';
import { authorize } from '../iam/authorize.ts';
import type { Subject } from '../iam/call.ts';
import type { Resource } from '../iam/resource.ts';
import { RevokedToken } from '../iam/revoked-token.entity.ts';
import { ServiceAccount } from '../iam/service-account.entity.ts';
import { DomainError, failedPrecondition, invalidArgument, notFound, unauthenticated } from '../platform/errors.ts';
import type { SessionMode } from './attach-session.entity.ts';
import { type Attachable, describe, findAttachables, permissionTo } from './resources.ts';

export interface Access {
  subject: Subject;
  /** When that token is revoked, the access ends. */
  tokenId: string | undefined;
  resourceId: string;
  mode: SessionMode;
}

/** Where it is read who may do what. */
export interface AccessReader {
  em: EntityManager;
  rules: AccessRules;
}

/**
 * The resource, when the subject may open it now.
 * @throws DomainError NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT for a mode that its kind has not, FAILED_PRECONDITION unless it is
 *   READY, UNAUTHENTICATED when subject or token are not good any more.
 */
export async function checkAccess({ em, rules }: AccessReader, access: Access): Promise<Attachable> {
  const [outcome] = await checkAccesses({ em, rules }, [access]);
  if (outcome instanceof DomainError) throw outcome;
  return outcome!;
}

/** The same for many, in a handful of statements: the resource, or why not. In their order. */
export async function checkAccesses(
  { em, rules }: AccessReader,
  accesses: readonly Access[],
): Promise<(Attachable | DomainError)[]> {
  const ids = [...new Set(accesses.map(({ resourceId }) => resourceId))];
  const found = new Map((await findAttachables(em, ids)).map((attachable) => [attachable.id, attachable]));
  const active = await activeAccounts(em, accesses);
  const revoked = await revokedTokens(em, accesses);
  // At once: what has to be read of bindings is read together.
  return Promise.all(
    accesses.map(async (access) => {
      const isGood = isActive(access.subject, active) && (access.tokenId === undefined || !revoked.has(access.tokenId));
      return isGood ? checkOne({ em, rules }, access, found.get(access.resourceId)) : unauthenticated();
    }),
  );
}

async function checkOne(
  { em, rules }: AccessReader,
  access: Access,
  attachable: Attachable | undefined,
): Promise<Attachable | DomainError> {
  const { subject, resourceId, mode } = access;
  const unknown = notFound('Disk, image or snapshot', resourceId);
  if (attachable === undefined) return unknown;
  const { kind, id, folderId, status } = attachable;
  const resource: Resource = { kind: `compute.${kind}`, id, folderId };
  try {
    await authorize({ subject, em, access: rules }, permissionTo(kind, mode), resource);
  } catch (error) {
    // What may not be seen is told in the words for what is not there.
    if (error instanceof DomainError) return error.code === 'NOT_FOUND' ? unknown : error;
    throw error;
  }
  if (mode === 'READ_WRITE' && kind !== 'disk') return invalidArgument('mode', `${describe(attachable)} can only be read`);
  if (status !== 'READY') return failedPrecondition(`${describe(attachable)} is ${status}`);
  return attachable;
}

/** Users live elsewhere: their roles and tokens end here, they do not. */
const isActive = ({ id, type }: Subject, active: ReadonlySet<string>): boolean => type !== 'serviceAccount' || active.has(id);

async function activeAccounts(em: EntityManager, accesses: readonly Access[]): Promise<Set<string>> {
  const ids = [...new Set(accesses.map(({ subject }) => subject.id))];
  const accounts = await em.find(
    ServiceAccount,
    { $and: [{ id: { $in: ids } }, activeAt(new Date())] },
    { fields: ['id'], disableIdentityMap: true },
  );
  return new Set(accounts.map(({ id }) => id));
}

async function revokedTokens(em: EntityManager, accesses: readonly Access[]): Promise<Set<string>> {
  const ids = [...new Set(accesses.flatMap(({ tokenId }) => (tokenId === undefined ? [] : [tokenId])))];
  if (ids.length === 0) return new Set();
  const revoked = await em.find(RevokedToken, { id: { $in: ids } }, { fields: ['id'], disableIdentityMap: true });
  return new Set(revoked.map(({ id }) => id));
}
