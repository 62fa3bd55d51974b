// The event of a job's end: that of its beginning, with another status.
import type { EntityManager } from '@mikro-orm/postgresql';
import { newId } from '../platform/ids.ts';
import type { DomainError } from '../platform/errors.ts';
import type { AuditEventJson } from './event.ts';
import { insertWholeEvent } from './event-queries.ts';
import { maskedText } from './masking.ts';

/**
 * Writes it in the transaction that ends the job, and answers its status. `started` is what CallAudit.record answered at the beginning;
 * null for a job that no call began: then nothing is written.
 */
export async function recordJobEnd(
  em: EntityManager,
  started: AuditEventJson | null,
  error?: { cause: DomainError; code: number },
): Promise<void> {
  if (started === null) return;
  const { error: _none, ...event } = started;
  await insertWholeEvent(em, {
    ...event,
    eventId: newId('auditEvent'),
    eventTime: new Date().toISOString(),
    eventStatus: error === undefined ? 'DONE' : error.cause.code === 'CANCELLED' ? 'CANCELLED' : 'ERROR',
    ...(error === undefined ? {} : { error: { code: error.code, message: maskedText(error.cause.message) } }),
  });
}
