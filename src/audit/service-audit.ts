// The audit of the service, put together: what makes events, what writes those of refusals, and their numbers.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { Metrics } from '../platform/metrics.ts';
import { type AttachAudit, createAttachAudit } from './attach-audit.ts';
import { Audit, type AuditParts } from './audit.ts';
import { eventStatuses } from './event.ts';
import { Places } from './places.ts';
import { Refusals, type RefusalsParts } from './refusals.ts';

export interface ServiceAuditParts extends Pick<AuditParts, 'methodJson' | 'tokenIdOf'> {
  fork: () => EntityManager;
  metrics: Metrics;
  log: RefusalsParts['log'];
}

/** Disposal writes what waits. */
export interface ServiceAudit extends AsyncDisposable {
  readonly audit: Audit;
  readonly attachments: AttachAudit;
}

export function createServiceAudit({ fork, metrics, log, ...parts }: ServiceAuditParts): ServiceAudit {
  const written = metrics.counter({
    name: 'obraz_audit_events_total',
    help: 'Audit events of calls that this process wrote, by status. (Events of the ends of jobs are not counted: jobs are.)',
    labels: { status: eventStatuses },
  });
  const series = Object.fromEntries(eventStatuses.map((status) => [status, written.with({ status })]));
  const leftOut = metrics
    .counter({ name: 'obraz_audit_left_out_total', help: 'Refused calls that left no audit event, since there were too many.' })
    .with({});
  const onWritten: AuditParts['onWritten'] = (status) => series[status]!.inc();
  const places = new Places();
  const refusals = new Refusals({ fork, places, log, onWritten, onLeftOut: () => leftOut.inc() });
  return {
    attachments: createAttachAudit({ refusals, places }),
    audit: new Audit({ ...parts, fork, refusals, places, onWritten }),
    [Symbol.asyncDispose]: () => refusals[Symbol.asyncDispose](),
  };
}
