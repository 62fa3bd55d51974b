// What somebody changed, or tried to. A row never changes but for its number, and goes when it is old.
import { defineEntity, p } from '@mikro-orm/core';
import { instant, int8, text } from '../db/columns.ts';
import type { AuditEventJson } from './event.ts';

const AuditEventSchema = defineEntity({
  name: 'AuditEvent',
  tableName: 'audit_events',
  properties: {
    id: text().primary(),
    /** By the clock of the process that wrote it. */
    occurredAt: instant(),
    /** Its place in the order in which events came to be seen: given by the first reader (event-queries.ts), null before. */
    position: int8().nullable(),
    event: p.json<AuditEventJson>(),
  },
  uniques: [{ name: 'audit_events_position_unique', properties: ['position'] }],
  indexes: [
    { name: 'audit_events_occurred_index', properties: ['occurredAt'] },
    { name: 'audit_events_unnumbered_index', properties: ['occurredAt', 'id'], where: 'position is null' },
  ],
});

export class AuditEvent extends AuditEventSchema.class {}
AuditEventSchema.setClass(AuditEvent);
export { AuditEventSchema };
