// How an attempt ends. Every way out is one fenced transaction or statement; when the fence fails nothing has happened, and another
// attempt carries on.
import { recordJobEnd } from '../audit/job-end.ts';
import { isTransientDatabaseError } from '../db/database-error.ts';
import { assertStillGranted } from '../iam/authorize.ts';
import { DomainError, TransientError } from '../platform/errors.ts';
import type { HeldJob } from './held-job.ts';
import { type Effect, type JobHandler, LeaseLost } from './job-handler.ts';
import { giveJobBack, postponeJob, removeJob, replaceJob } from './job-queries.ts';
import { endOperation } from './operation-queries.ts';
import type { JobOutcome, RunnerContext } from './runner-parts.ts';
import { codeNumbers, encodeStatus } from './status.mapper.ts';

export interface Settled {
  outcome: JobOutcome;
  /** The code that the operation ended with, what the attempt failed of, or what goes on; fit for a log. */
  reason?: string;
}

const cancelled = (): DomainError => new DomainError('CANCELLED', 'The operation was cancelled');

/** Runs the job and ends the attempt. @throws only what is a bug here, or LeaseLost. */
export async function carryOut(job: HeldJob, handler: JobHandler, context: RunnerContext): Promise<Settled> {
  if (job.cancelRequested) return fail(job, handler, context, cancelled());
  const givenUp = exhaustion(job, context);
  if (givenUp !== undefined) return fail(job, handler, context, givenUp);
  try {
    if (job.authority !== null) await assertStillGranted(context.access, job.authority.subject, job.authority.grants);
    const effect = await handler.run(job);
    return await succeed(job, effect, context);
  } catch (error) {
    return settleError(job, handler, context, error);
  }
}

/** What ends a job at its claim: attempts that ended without a word (crashes), or that never arrive. */
function exhaustion(job: HeldJob, { bounds }: RunnerContext): DomainError | undefined {
  if (job.stalledAttempts <= bounds.maxStalledAttempts && job.attempt <= bounds.maxAttempts) return undefined;
  const reason = job.lastError ?? 'what ran it ended each time without a word';
  return new DomainError('UNAVAILABLE', `Given up after ${job.attempt - 1} attempts: ${reason}`);
}

function settleError(job: HeldJob, handler: JobHandler, context: RunnerContext, error: unknown): Promise<Settled> | Settled {
  const { bounds } = context;
  if (job.leaseSignal.aborted || error instanceof LeaseLost) return { outcome: 'lost' };
  // Whatever a handler throws on its way out of an aborted job, the abort is why.
  if (job.abortCause === 'cancelled') return fail(job, handler, context, cancelled());
  if (job.abortCause === 'shutdown') return giveBack(job, context);
  if (error instanceof DomainError) return fail(job, handler, context, error);
  const isTransient = error instanceof TransientError || isTransientDatabaseError(error);
  if (!isTransient) logBug(job, context, error);
  if (job.stalledAttempts >= (isTransient ? bounds.maxStalledAttempts : bounds.maxBugAttempts)) {
    return fail(job, handler, context, isTransient ? new DomainError('UNAVAILABLE', shownReason(error)) : internal(job));
  }
  return postpone(job, context, isTransient ? shownReason(error) : 'an internal error');
}

const internal = (job: HeldJob): DomainError => new DomainError('INTERNAL', `Internal error, operation ${job.operationId}`);

/** A TransientError's message is made for callers; a driver's is not. */
const shownReason = (error: unknown): string =>
  error instanceof TransientError ? error.message : 'The database did not answer for too long';

function logBug(job: HeldJob, { log }: RunnerContext, error: unknown): void {
  log.error({ ...aboutJob(job), err: error }, 'a job failed of an error that is a bug');
}

export const aboutJob = ({ operationId, kind, attempt }: HeldJob) => ({ operationId, kind, attempt });

/**
 * Effect, response and the job's end, or the job that goes on, in one transaction.
 * @throws what the effect throws; LeaseLost when the fence fails.
 */
async function succeed(job: HeldJob, effect: Effect, { fork, bell }: RunnerContext): Promise<Settled> {
  job.isEnding = true;
  try {
    const { next, hasFollowers } = await job.throughOutages(() =>
      fork().transactional(async (em) => {
        const answer = await effect(em);
        await em.flush();
        if ('kind' in answer) {
          if (!(await replaceJob(em, job, answer))) throw new LeaseLost();
          return { next: answer.kind, hasFollowers: false };
        }
        const removed = await removeJob(em, job);
        if (removed === undefined) throw new LeaseLost();
        await endOperation(em, job.operationId, { response: answer }, job.meter);
        await recordJobEnd(em, removed.audit);
        return { next: undefined, hasFollowers: removed.hasFollowers };
      }),
    );
    announce(job, bell, next !== undefined || hasFollowers);
    return { outcome: 'done', ...(next === undefined ? {} : { reason: `goes on as ${next}` }) };
  } catch (error) {
    job.isEnding = false;
    throw error;
  }
}

/** Clean-up, error and the job's end in one transaction. When the clean-up fails, it is tried again by later attempts. */
async function fail(job: HeldJob, handler: JobHandler, context: RunnerContext, cause: DomainError): Promise<Settled> {
  const { fork, bell, bounds, log } = context;
  job.isEnding = true;
  try {
    // A clean-up that never succeeds is a bug, and must not keep the operation from ending.
    const abandons = job.stalledAttempts <= bounds.maxStalledAttempts * 2 && job.attempt <= bounds.maxAttempts * 2;
    if (!abandons) log.error(aboutJob(job), 'a failed job is ended without its clean-up, which never succeeded');
    const ended = await job.throughOutages(() =>
      fork().transactional(async (em) => {
        if (abandons) await handler.abandon(em, job.payload, cause);
        await em.flush();
        const removed = await removeJob(em, job);
        if (removed === undefined) throw new LeaseLost();
        // A cancellation that nobody here has heard of yet may be why the work failed.
        const error = removed.cancelRequested ? cancelled() : cause;
        await endOperation(em, job.operationId, { error: encodeStatus(error) }, job.meter);
        await recordJobEnd(em, removed.audit, { cause: error, code: codeNumbers[error.code] });
        return { error, hasFollowers: removed.hasFollowers };
      }),
    );
    announce(job, bell, ended.hasFollowers);
    const { code } = ended.error;
    return { outcome: code === 'CANCELLED' ? 'cancelled' : 'failed', reason: code };
  } catch (error) {
    job.isEnding = false;
    if (job.leaseSignal.aborted || error instanceof LeaseLost) return { outcome: 'lost' };
    logBug(job, context, error);
    return postpone(job, context, cause.message);
  }
}

async function postpone(job: HeldJob, { fork, bounds }: RunnerContext, reason: string): Promise<Settled> {
  const step = Math.max(0, Math.min(job.stalledAttempts - 1, 30));
  const backOffMs = Math.min(bounds.firstBackOffMs * 2 ** step, bounds.maxBackOffMs) * (0.8 + 0.4 * Math.random());
  try {
    const isHeld = await job.throughOutages(() => postponeJob(fork(), job, backOffMs, reason));
    return isHeld ? { outcome: 'postponed', reason } : { outcome: 'lost' };
  } catch (error) {
    if (error instanceof LeaseLost) return { outcome: 'lost' };
    throw error;
  }
}

async function giveBack(job: HeldJob, { fork, bell }: RunnerContext): Promise<Settled> {
  // Once: when the database is away as well, the lease ends by itself.
  await giveJobBack(fork(), job).catch(() => {});
  bell.ring();
  return { outcome: 'given-back' };
}

function announce(job: HeldJob, bell: RunnerContext['bell'], hasWork: boolean): void {
  bell.ended(job.operationId);
  if (hasWork) bell.ring();
}
