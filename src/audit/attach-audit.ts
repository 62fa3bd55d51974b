// Events of what NBD clients open for writing and let go of. There is no request: details tell the session, and what it may do.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { DomainError } from '../platform/errors.ts';
import { newId } from '../platform/ids.ts';
import { type AuditEventJson, type EventStatus, toSubjectType } from './event.ts';
import { insertEvent } from './event-queries.ts';
import type { Place, Places } from './places.ts';
import { attachDisk, detachDisk, type EventType } from './event-types.ts';
import { maskedText } from './masking.ts';
import type { Refusals } from './refusals.ts';

/** Who opens what, and from where. */
export interface AttachedBy {
  subject: { id: string; type: string };
  tokenId: string | undefined;
  resourceId: string;
  /** As sessions have it: an address, with the name in the certificate. */
  peer: string;
}

/** A session that is over, as its row told of it; null of one that only read. */
export interface EndedSession {
  id: string;
  attachedBy: AttachedBy | null;
}

export interface AttachAudit {
  /** In the transaction that makes the session. */
  attached(em: EntityManager, by: AttachedBy, sessionId: string): Promise<void>;
  /** In the transaction that removes the rows of these sessions. */
  detached(em: EntityManager, sessions: readonly EndedSession[]): Promise<void>;
  /** Later, and at a bounded rate. */
  refused(by: AttachedBy, error: DomainError, code: number): void;
}

export const createAttachAudit = ({ refusals, places }: { refusals: Refusals; places: Places }): AttachAudit => ({
  async attached(em, by, sessionId) {
    await insertEvent(em, places, eventOf(attachDisk, by, 'DONE', sessionId), placeOf(attachDisk, by));
  },
  async detached(em, sessions) {
    for (const { id, attachedBy: by } of sessions)
      if (by !== null) await insertEvent(em, places, eventOf(detachDisk, by, 'DONE', id), placeOf(detachDisk, by));
  },
  refused(by, error, code) {
    const leftOut = refusals.admit({ subjectId: by.subject.id, address: by.peer });
    if (leftOut === undefined) return;
    const event = eventOf(attachDisk, by, 'ERROR', undefined);
    event.authorization.authorized = !['UNAUTHENTICATED', 'PERMISSION_DENIED', 'NOT_FOUND'].includes(error.code);
    event.error = { code, message: maskedText(error.message) };
    if (leftOut > 0) event.details['leftOut'] = leftOut;
    refusals.add(event, placeOf(attachDisk, by));
  },
});

const placeOf = ({ kind }: EventType, { resourceId }: AttachedBy): Place => ({ kind, resourceId });

function eventOf(type: EventType, by: AttachedBy, status: EventStatus, sessionId: string | undefined): AuditEventJson {
  const { subject, tokenId, resourceId, peer } = by;
  return {
    eventId: newId('auditEvent'),
    eventSource: type.source,
    eventType: type.name,
    eventTime: new Date().toISOString(),
    authentication: {
      authenticated: true,
      subjectType: toSubjectType(subject.type),
      subjectId: subject.id,
      ...(tokenId === undefined ? {} : { tokenInfo: { iamTokenId: tokenId } }),
    },
    authorization: { authorized: true },
    resourceMetadata: { path: [] },
    requestMetadata: { remoteAddress: maskedText(peer) },
    eventStatus: status,
    details: { diskId: resourceId, mode: 'READ_WRITE', ...(sessionId === undefined ? {} : { sessionId }) },
    requestParameters: {},
  };
}
