// Chunks and pages that garbage collection found unreachable: deleted by a later run, unless somebody uses them before. Written by
// postgres-ledger.ts and admission.ts alone; src/storage/admission.ts tells the protocol.
import { defineEntity, p } from '@mikro-orm/core';
import { instant, text } from '../db/columns.ts';

const CondemnedObjectSchema = defineEntity({
  name: 'CondemnedObject',
  tableName: 'condemned_objects',
  properties: {
    /** Blob key. */
    key: text().primary(),
    /** A UUID: an object that is withdrawn and condemned again has another. */
    condemnation: text(),
    condemnedAt: instant(),
    /** `operation/attempt` of the writers that were registered after the commit; null until they are noted. */
    writers: p.array().columnType('text[]').nullable(),
    /** The collector's session (claims.ts) that may delete the object now. */
    claimedBy: p.integer().nullable(),
    /** When that session was seen to have ended: a delete of its may still be under way, for a while. */
    orphanedAt: instant().nullable(),
  },
});

export class CondemnedObject extends CondemnedObjectSchema.class {}
CondemnedObjectSchema.setClass(CondemnedObject);
export { CondemnedObjectSchema };
