// One connection that has a disk, an image or a snapshot open. The row is its lease: a disk has a writer while such a row of mode
// READ_WRITE lies before its `leaseUntil`, by the database's clock. Written by session-queries.ts alone, which tells the rules.
import { defineEntity, p } from '@mikro-orm/core';
import type { AttachedBy } from '../audit/attach-audit.ts';
import { instant, text } from '../db/columns.ts';

export type SessionMode = 'READ_WRITE' | 'READ_ONLY';

const AttachSessionSchema = defineEntity({
  name: 'AttachSession',
  tableName: 'attach_sessions',
  properties: {
    /** A UUID; also the writer of the generations that the session makes. */
    id: text().primary(),
    machineId: text(),
    resourceId: text(),
    mode: text().$type<SessionMode>(),
    /** Whom it was opened for. */
    subjectId: text(),
    /** host:port, or the path of a local socket. */
    peer: text(),
    createdAt: instant(),
    /** Once it is past, the session never comes back. */
    leaseUntil: instant(),
    /** What the session reads from: kept from garbage collection while the row is there. Null: zeros. */
    baseRoot: text().nullable(),
    /** Of a writer: for the event of its end, whoever it is that ends it. */
    attachedBy: p.json<AttachedBy>().nullable(),
  },
  uniques: [{ name: 'attach_sessions_writer_unique', properties: ['resourceId'], where: "mode = 'READ_WRITE'" }],
  indexes: [
    { name: 'attach_sessions_resource_index', properties: ['resourceId'] },
    { name: 'attach_sessions_machine_index', properties: ['machineId'] },
  ],
});

export class AttachSession extends AttachSessionSchema.class {}
AttachSessionSchema.setClass(AttachSession);
export { AttachSessionSchema };
