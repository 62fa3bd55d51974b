// What a mutating call leaves behind, as the code sees it that makes the change. `undefined` on calls that only read.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { AuditEventJson, EventStatus } from './event.ts';
import type { JsonObject } from './masking.ts';

/** A change that is about to be committed. */
export interface AuditedChange {
  /** STARTED for what a job goes on with. */
  status: EventStatus & ('STARTED' | 'DONE');
  /** The folder of the resource; the cloud of what lies in no folder. */
  folderId?: string;
  resourceId?: string;
  resourceName?: string;
  operationId?: string;
  /** Shown with what the request says. */
  details?: JsonObject;
  response?: JsonObject;
}

export interface CallAudit {
  /**
   * Writes the event of a change, in the transaction `em` that makes it, and answers it: what a job needs for the event of its end.
   * Methods that answer operations have it written by Operations.begin.
   */
  record(em: EntityManager, change: AuditedChange): Promise<AuditEventJson>;
  /** Who it turned out to be, in a method that is open to everybody. */
  identify(subject: { id: string; type: string }): void;
}
