// The work behind an operation that is not done: what runners lease. The row goes in the transaction that ends the operation.
//
// Instants here are the database's: they are written and compared with its clock alone (job-queries.ts). The payload may hold secrets
// (signed URLs): it is never logged, and is deleted with the row.
import { defineEntity, p } from '@mikro-orm/core';
import type { AuditEventJson } from '../audit/event.ts';
import { instant, text } from '../db/columns.ts';
import type { Grant, Subject } from '../iam/call.ts';

/** Who ordered a job, and what he was allowed then. */
export interface JobAuthority {
  subject: Subject;
  grants: Grant[];
}

const JobSchema = defineEntity({
  name: 'Job',
  tableName: 'jobs',
  properties: {
    operationId: text().primary(),
    /** Names the handler. */
    kind: text(),
    payload: p.json<unknown>(),
    /** What an attempt left for the next one. */
    checkpoint: p.json<unknown>().nullable(),
    /** Roots of layers that garbage collection must keep while this row is there. */
    pinnedRoots: p.array().columnType('text[]').default([]),
    /** Rises with every claim; with the id it is the fence: only the latest attempt changes anything. */
    attempt: p.integer().default(0),
    /** Claims in a row without a new checkpoint, the present one included. */
    stalledAttempts: p.integer().default(0),
    /** Not claimed before. Cut to milliseconds, never rounded up: a new job is due the moment it is there. */
    runAt: instant(),
    /** While it lies ahead, the job belongs to `leaseOwner`. */
    leaseUntil: instant().nullable(),
    leaseOwner: text().nullable(),
    cancelRequested: p.boolean().default(false),
    /** The event that its beginning left, for that of its end; null when no call began it. */
    audit: p.json<AuditEventJson>().nullable(),
    /** Not claimed while that operation's job exists. */
    afterOperationId: text().nullable(),
    /** What the call that ordered it was allowed, and who made it: asked again before every attempt. Null: nobody's work, or unconditional. */
    authority: p.json<JobAuthority>().nullable(),
    /** The folder whose running operations it is one of, where those are limited; null: it does not count. */
    countedFolderId: text().nullable(),
    /** Why the last attempt failed, fit for the caller to read. */
    lastError: text().nullable(),
  },
  indexes: [
    { name: 'jobs_run_at_index', properties: ['runAt'] },
    { name: 'jobs_cancel_requested_index', properties: ['operationId'], where: 'cancel_requested' },
    { name: 'jobs_counted_folder_index', properties: ['countedFolderId'], where: 'counted_folder_id is not null' },
    { name: 'jobs_after_operation_index', properties: ['afterOperationId'], where: 'after_operation_id is not null' },
  ],
});

export class Job extends JobSchema.class {}
JobSchema.setClass(Job);
export { JobSchema };
