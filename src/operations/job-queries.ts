// Every statement on jobs that runners make, in one place, because their safety is in how they fit together:
// - All instants are the database's. A runner's clock may be wrong; it only ever measures durations.
// - The fence: a statement of a runner changes a job only while (id, attempt) is the latest claim and its lease has not ended.
// - Rows are locked in one order: what the handler changes, then the job, then the operation. Renewals skip rows that are locked.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { AuditEventJson } from '../audit/event.ts';
import { query } from '../db/bound-query.ts';
import type { JobAuthority } from './job.entity.ts';

/** One claim of a job. */
export interface Fence {
  operationId: string;
  attempt: number;
}

export interface ClaimedJob extends Fence {
  kind: string;
  payload: unknown;
  checkpoint: unknown;
  stalledAttempts: number;
  cancelRequested: boolean;
  lastError: string | null;
  authority: JobAuthority | null;
  /** How long it was due, ms. */
  waitedMs: number;
}

export interface ClaimOptions {
  kinds: readonly string[];
  owner: string;
  leaseMs: number;
  /** At most so many jobs. */
  limit: number;
  /** Jobs that this process has not let go of yet, whatever their leases say. */
  except: readonly string[];
  /** Only what was cancelled while nobody worked on it: quick to end, so it need not wait for a free place. */
  cancelledOnly?: boolean;
}

const fenced = 'operation_id = $1 and attempt = $2 and lease_until > clock_timestamp()';

/** Takes due jobs, longest due first. MATERIALIZED: an inlined subquery could be run again, and lock more than the limit. */
export const claimJobs = (em: EntityManager, options: ClaimOptions): Promise<ClaimedJob[]> =>
  query<ClaimedJob>(
    em,
    `with due as materialized (
       select operation_id from jobs
       where run_at <= now() and (lease_until is null or lease_until <= now())
         and kind = any ($1::text[]) and operation_id <> all ($2::text[])
         ${options.cancelledOnly === true ? 'and cancel_requested and lease_until is null' : ''}
         and (after_operation_id is null or cancel_requested
              or not exists (select from jobs earlier where earlier.operation_id = jobs.after_operation_id))
       order by run_at
       limit $3
       for update of jobs skip locked
     )
     update jobs
     set attempt = attempt + 1, stalled_attempts = stalled_attempts + 1,
         lease_until = now() + $4 * interval '1 millisecond', lease_owner = $5
     from due where jobs.operation_id = due.operation_id
     returning jobs.operation_id as "operationId", jobs.kind, jobs.payload, jobs.checkpoint, jobs.attempt,
               jobs.stalled_attempts as "stalledAttempts", jobs.cancel_requested as "cancelRequested", jobs.last_error as "lastError",
               jobs.authority,
               (extract(epoch from now() - jobs.run_at) * 1000)::float8 as "waitedMs"`,
    [options.kinds, options.except, options.limit, options.leaseMs, options.owner],
  );

export interface RenewedLease {
  operationId: string;
  /** False: another attempt has the job, or the lease ended. */
  held: boolean;
  /** False while held: the row was locked just then; ask again soon. */
  renewed: boolean;
  cancelRequested: boolean;
}

/** Renews the leases of all `jobs` in one statement. It waits for no lock: one slow row must not cost the others their leases. */
export const renewLeases = (em: EntityManager, jobs: readonly Fence[], leaseMs: number): Promise<RenewedLease[]> =>
  query<RenewedLease>(
    em,
    `with held as (select * from unnest($1::text[], $2::int[]) as held (operation_id, attempt)),
     free as materialized (
       select operation_id from jobs join held using (operation_id, attempt) where lease_until > now()
       for update of jobs skip locked
     ),
     renewed as (
       update jobs set lease_until = now() + $3 * interval '1 millisecond'
       from free where jobs.operation_id = free.operation_id
       returning jobs.operation_id
     )
     select held.operation_id as "operationId", jobs.operation_id is not null as held, renewed.operation_id is not null as renewed,
            coalesce(jobs.cancel_requested, false) as "cancelRequested"
     from held
     left join jobs on jobs.operation_id = held.operation_id and jobs.attempt = held.attempt and jobs.lease_until > now()
     left join renewed on renewed.operation_id = held.operation_id`,
    [jobs.map(({ operationId }) => operationId), jobs.map(({ attempt }) => attempt), leaseMs],
  );

/** Whether this attempt has the job, and until the transaction ends no other has it. */
export async function holdsJob(em: EntityManager, { operationId, attempt }: Fence): Promise<boolean> {
  const rows = await query(em, `select from jobs where ${fenced} for share`, [operationId, attempt]);
  return rows.length > 0;
}

/** Answers the attempts in a row without a new checkpoint, or `undefined` when the fence failed. */
export async function storeCheckpoint(
  em: EntityManager,
  { operationId, attempt }: Fence,
  checkpoint: string,
  pinnedRoots: readonly string[] | undefined,
): Promise<number | undefined> {
  const [row] = await query<{ stalledAttempts: number }>(
    em,
    `update jobs
     set checkpoint = $3::jsonb, pinned_roots = coalesce($4::text[], pinned_roots),
         stalled_attempts = case when checkpoint is distinct from $3::jsonb then 0 else stalled_attempts end
     where ${fenced}
     returning stalled_attempts as "stalledAttempts"`,
    [operationId, attempt, checkpoint, pinnedRoots ?? null],
  );
  return row?.stalledAttempts;
}

/** Lets a job go to be run again in `delayMs`. False: the fence failed. */
export async function postponeJob(
  em: EntityManager,
  { operationId, attempt }: Fence,
  delayMs: number,
  reason: string,
): Promise<boolean> {
  const rows = await query(
    em,
    `update jobs
     set run_at = date_trunc('milliseconds', now()) + $3 * interval '1 millisecond', lease_until = null, lease_owner = null, last_error = $4
     where ${fenced} returning operation_id`,
    [operationId, attempt, Math.round(delayMs), reason],
  );
  return rows.length > 0;
}

/** Lets a job go to be run at once, as if this attempt had not been: for a shutdown. */
export const giveJobBack = (em: EntityManager, { operationId, attempt }: Fence): Promise<unknown> =>
  query(
    em,
    `update jobs
     set run_at = date_trunc('milliseconds', now()), lease_until = null, lease_owner = null,
         stalled_attempts = greatest(stalled_attempts - 1, 0)
     where ${fenced}`,
    [operationId, attempt],
  );

export interface RemovedJob {
  cancelRequested: boolean;
  hasFollowers: boolean;
  audit: AuditEventJson | null;
}

/** Removes the job within the transaction that ends its operation. `undefined`: the fence failed, and the transaction must go. */
export async function removeJob(em: EntityManager, { operationId, attempt }: Fence): Promise<RemovedJob | undefined> {
  const [row] = await query<RemovedJob>(
    em,
    `delete from jobs where ${fenced}
     returning cancel_requested as "cancelRequested", audit,
               exists (select from jobs later where later.after_operation_id = $1) as "hasFollowers"`,
    [operationId, attempt],
  );
  return row;
}

/** Puts other work in the place of the job, due at once, within the transaction of what was done. False: the fence failed, and it must go. */
export async function replaceJob(
  em: EntityManager,
  { operationId, attempt }: Fence,
  next: { kind: string; payload: unknown; pinnedRoots?: readonly string[] },
): Promise<boolean> {
  // The attempts go on counting: no claim of the next job may look like one of this job.
  const rows = await query(
    em,
    `update jobs
     set kind = $3, payload = $4::jsonb, pinned_roots = $5::text[], checkpoint = null, stalled_attempts = 0, last_error = null,
         run_at = date_trunc('milliseconds', now()), lease_until = null, lease_owner = null
     where ${fenced} returning operation_id`,
    [operationId, attempt, next.kind, JSON.stringify(next.payload), next.pinnedRoots ?? []],
  );
  return rows.length > 0;
}

export interface NewJob {
  operationId: string;
  kind: string;
  payload: unknown;
  pinnedRoots: readonly string[];
  afterOperationId: string | undefined;
  authority: JobAuthority | undefined;
  /** The folder whose running operations it is one of; null: it does not count. */
  countedFolderId: string | null;
  audit: AuditEventJson | undefined;
}

export const insertJob = (em: EntityManager, job: NewJob): Promise<unknown> =>
  query(
    em,
    `insert into jobs (operation_id, kind, payload, pinned_roots, after_operation_id, authority, counted_folder_id, audit, run_at)
     values ($1, $2, $3::jsonb, $4::text[], $5, $6::jsonb, $7, $8::jsonb, date_trunc('milliseconds', now()))`,
    [
      job.operationId,
      job.kind,
      JSON.stringify(job.payload),
      job.pinnedRoots,
      job.afterOperationId ?? null,
      job.authority === undefined ? null : JSON.stringify(job.authority),
      job.countedFolderId,
      job.audit === undefined ? null : JSON.stringify(job.audit),
    ],
  );

/** Flags the jobs of `operationIds`. Those that nobody works on are due at once, before all others; they end without being run. */
export async function flagJobs(em: EntityManager, operationIds: readonly string[]): Promise<string[]> {
  const rows = await query<{ operationId: string }>(
    em,
    `update jobs set cancel_requested = true, run_at = 'epoch' where operation_id = any ($1::text[])
     returning operation_id as "operationId"`,
    [operationIds],
  );
  return rows.map(({ operationId }) => operationId);
}

/** Every root that a job pins, for garbage collection; leased or not, all unfinished jobs count. */
export async function listPinnedRoots(em: EntityManager): Promise<string[]> {
  const rows = await query<{ root: string }>(em, 'select distinct unnest(pinned_roots) as root from jobs');
  return rows.map(({ root }) => root);
}
