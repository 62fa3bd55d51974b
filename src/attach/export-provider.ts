// Names of exports → what may be opened under them, and for whom:
//   a ticket                         what it says, for the subject that asked for it, wherever the client comes from
//   <id>                             that resource, a disk for writing: on a Unix socket of this user for the admin, and for a client whose
//                                    certificate names a service account for that account
//   <id>/ro                          the same, for reading
// Whoever shows neither is told nothing of what there is.
import type { EntityManager } from '@mikro-orm/postgresql';
import { type ExportInfo, type ExportProvider, ExportRefused, type NbdPeer } from '../nbd/export-provider.ts';
import { DomainError, TransientError } from '../platform/errors.ts';
import { isTransientDatabaseError } from '../db/database-error.ts';
import type { AccessRules } from '../iam/access-control.ts';
import type { Subject } from '../iam/call.ts';
import { type Access, checkAccess, checkAccesses } from './access.ts';
import type { SessionMode } from './attach-session.entity.ts';
import type { Attachments } from './attachments.ts';
import { preferredBlockBytes } from './layer-reader.ts';
import { type Attachable, findAttachables, listAttachables } from './resources.ts';
import { isTicket, readTicket, type TicketKeys } from './ticket.ts';

export interface ExportProviderParts {
  fork: () => EntityManager;
  access: AccessRules;
  attachments: Attachments;
  keys: TicketKeys;
  /** Looks at what a client shows; one that is not good, UNAUTHENTICATED, counts for its address. @throws DomainError RESOURCE_EXHAUSTED. */
  attempt?: (<Answer>(peer: string, check: () => Promise<Answer>) => Promise<Answer>) | undefined;
  /** Whom clients on the Unix socket are. */
  adminId: string;
}

const readOnlySuffix = '/ro';
const idPattern = /^[a-z0-9]{1,50}$/;

export const exportProvider = (parts: ExportProviderParts): ExportProvider => ({
  list: (peer) => told(() => list(parts, peer)),
  info: (name, peer) =>
    told(async () => {
      const access = await resolve(parts, name, peer);
      return toInfo(name, await checkAccess({ em: parts.fork(), rules: parts.access }, access), access.mode);
    }),
  open: (name, peer, signal) =>
    told(async () => parts.attachments.open(await resolve(parts, name, peer), describePeer(peer), signal)),
});

async function list({ fork, access, adminId }: ExportProviderParts, peer: NbdPeer): Promise<ExportInfo[]> {
  const subject = subjectOf(peer, adminId);
  // Tickets are not listed: who has one knows it.
  if (subject === undefined) return [];
  const em = fork();
  const candidates = await listAttachables(em, subject);
  const modes = candidates.map(({ kind }): SessionMode => (kind === 'disk' ? 'READ_WRITE' : 'READ_ONLY'));
  const outcomes = await checkAccesses(
    { em, rules: access },
    candidates.map(({ id }, index) => ({ subject, tokenId: undefined, resourceId: id, mode: modes[index]! })),
  );
  return outcomes.flatMap((outcome, index) =>
    outcome instanceof DomainError ? [] : [toInfo(outcome.id, outcome, modes[index]!)],
  );
}

async function resolve(parts: ExportProviderParts, name: string, peer: NbdPeer): Promise<Access> {
  const { fork, keys, adminId, attempt = (_peer, check) => check() } = parts;
  if (isTicket(name)) return attempt(peer.remoteAddress, async () => goodTicket(name, keys));
  const subject = subjectOf(peer, adminId);
  const isForReading = name.endsWith(readOnlySuffix);
  const id = isForReading ? name.slice(0, -readOnlySuffix.length) : name;
  if (subject === undefined || !idPattern.test(id)) {
    throw new ExportRefused('UNKNOWN', 'there is no such export: its name is a ticket (obraz nbd attach <id>)');
  }
  if (isForReading) return { subject, tokenId: undefined, resourceId: id, mode: 'READ_ONLY' };
  const [found] = await findAttachables(fork(), [id]);
  return { subject, tokenId: undefined, resourceId: id, mode: found?.kind === 'disk' ? 'READ_WRITE' : 'READ_ONLY' };
}

/** @throws DomainError UNAUTHENTICATED. */
function goodTicket(name: string, keys: TicketKeys): Access {
  const claims = readTicket(name, keys);
  if (claims !== undefined) return claims;
  const text = 'the ticket is not good, or has expired: get another one (obraz nbd attach <id>)';
  throw new DomainError('UNAUTHENTICATED', text);
}

/** Who a client is that shows no ticket. */
function subjectOf({ isUnixSocket, certificateSubject }: NbdPeer, adminId: string): Subject | undefined {
  if (certificateSubject !== undefined) return { id: certificateSubject, type: 'serviceAccount' };
  return isUnixSocket ? { id: adminId, type: 'serviceAccount' } : undefined;
}

const describePeer = ({ remoteAddress, certificateSubject }: NbdPeer): string =>
  certificateSubject === undefined ? remoteAddress : `${remoteAddress} (${certificateSubject.slice(0, 64).toWellFormed()})`;

const toInfo = (exportName: string, { name, kind, id, sizeBytes }: Attachable, mode: SessionMode): ExportInfo => ({
  name: exportName,
  description: name === '' ? `${kind} ${id}` : `${kind} ${id}: ${name}`,
  sizeBytes,
  readOnly: mode === 'READ_ONLY',
  preferredBlockBytes,
  multiConn: mode === 'READ_ONLY',
});

/** The domain's refusals in NBD's words. */
async function told<Answer>(work: () => Promise<Answer>): Promise<Answer> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof DomainError) {
      throw new ExportRefused(error.code === 'NOT_FOUND' ? 'UNKNOWN' : 'POLICY', error.message, { cause: error });
    }
    if (error instanceof TransientError || isTransientDatabaseError(error)) {
      throw new ExportRefused('SHUTDOWN', 'not just now: try again in a moment', { cause: error });
    }
    throw error;
  }
}
