// What methods do with operations: begin one in the transaction that changes their resource, cancel that of another, wait for its end.
import { setTimeout as delay } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { AccessBindingsOperationResult } from '../../generated/yandex/cloud/access/access.ts';
import type { AuditEventJson } from '../audit/event.ts';
import type { JsonObject } from '../audit/masking.ts';
import { isTransientDatabaseError } from '../db/database-error.ts';
import type { Call, Method } from '../iam/call.ts';
import type { ResourceKind } from '../iam/resource.ts';
import { failedPrecondition, TransientError, unauthenticated } from '../platform/errors.ts';
import { newId } from '../platform/ids.ts';
import { Turns } from '../platform/turns.ts';
import { defaultKeyWindowMs, findRepeated, hashRequest, redirectKey, type RepeatableCall, takeKey } from './idempotency.ts';
import { authorizeOperation } from './authorize-operation.ts';
import type { JobBell } from './job-bell.ts';
import type { JobAuthority } from './job.entity.ts';
import { flagJobs, insertJob } from './job-queries.ts';
import { flagOperations, unfinishedOperations } from './operation-queries.ts';
import { Operation } from './operation.entity.ts';
import { type OperationMessage, toOperationMessage } from './operation.mapper.ts';
import type { PackedMessage } from './pack.ts';

interface OperationAbout {
  /** Of a folder the folder itself; of a cloud empty. */
  folderId: string;
  resourceId: string;
  resourceKind: ResourceKind;
  /** `Create image`; at most 256 characters. */
  description: string;
  metadata: PackedMessage;
  /** Whether clients may cancel it. Default: no. */
  cancellable?: boolean;
  /** Whether the resource goes in this transaction: its audit event is made while it is there. Default: no. */
  removesResource?: boolean;
  /** Whether the transaction lets go of a layer, so that data may be garbage now. Default: no. */
  freesData?: boolean;
  /** Whether it is one of the running operations of its folder, which are limited, while it has a job. Default: yes. */
  countsAsRunning?: boolean;
}

export interface JobOrder {
  kind: string;
  /** Kept as JSON, deleted with the job, never logged. */
  payload: unknown;
  /** Roots of layers that garbage collection must keep for the job. */
  pinnedRoots?: readonly string[];
  /** It runs to its end whatever its caller may do by then. Default: what the call was allowed is asked again before every attempt. */
  unconditional?: boolean;
}

/** What a method's transaction makes: work for a runner, or an operation that is done from the first moment. */
export type NewOperation = OperationAbout &
  ({ job: JobOrder; response?: undefined } | { response: PackedMessage; job?: undefined });

/** The answer of a method that found its work under way already. */
export interface ExistingOperation {
  existing: Operation;
}

type Work = (em: EntityManager) => Promise<NewOperation | ExistingOperation> | NewOperation | ExistingOperation;

/** What a transaction does for others to hear after its commit. */
interface Aftermath {
  cancelled: string[];
  hasJob: boolean;
  freesData: boolean;
}

const waitBoundMs = 30_000;
/** Of the 20 connections that a process has by default. */
const transactionsPerSubject = 4;

export interface OperationsParts {
  /** Hears of every commit that let go of data. */
  bell: JobBell;
  /** Answers an EntityManager outside of any transaction. */
  fork: () => EntityManager;
  /** May one more operation run in the folder? @throws DomainError RESOURCE_EXHAUSTED. Default: there is no limit. */
  reserveRunning?: (em: EntityManager, folderId: string) => Promise<void>;
  /** How long an idempotency key answers. Default: 24 h. */
  keyWindowMs?: number | undefined;
}

export class Operations {
  readonly #bell: JobBell;
  readonly #fork: () => EntityManager;
  readonly #reserveRunning: OperationsParts['reserveRunning'];
  readonly #keyWindowMs: number;
  /** What the transactions under way have cancelled. */
  readonly #aftermaths = new WeakMap<EntityManager, Aftermath>();
  /** Calls under way by idempotency key: repeats in this process wait here, not each on a connection of the pool. */
  readonly #turns = new Map<string, Promise<unknown>>();
  /** Transactions of one subject at once: a burst of its calls waits here, not on the connections that everybody shares. */
  readonly #places = new Turns(transactionsPerSubject);

  constructor(parts: OperationsParts) {
    this.#bell = parts.bell;
    this.#fork = parts.fork;
    this.#reserveRunning = parts.reserveRunning;
    this.#keyWindowMs = parts.keyWindowMs ?? defaultKeyWindowMs;
  }

  /**
   * One transaction: the idempotency key, `work` (which changes the caller's resource), the operation and its job. Answers the operation
   * as it is after the commit: `done` when `work` answered a response, another call's when the idempotency key says so.
   * @throws what `work` throws, and nothing is kept then; UNAVAILABLE (TransientError) when the database is away.
   */
  async begin(call: Call, work: Work): Promise<OperationMessage> {
    const subjectId = call.subject?.id;
    if (subjectId === undefined) throw unauthenticated();
    const repeatable = repeatableCall(call, this.#keyWindowMs);
    if (repeatable === undefined) return this.#inItsPlace(call, subjectId, undefined, work);
    const turn = JSON.stringify([subjectId, repeatable.method, repeatable.key]);
    while (this.#turns.has(turn)) {
      await this.#turns.get(turn)!.catch(() => {});
      call.signal.throwIfAborted();
    }
    const mine = this.#inItsPlace(call, subjectId, repeatable, work);
    this.#turns.set(turn, mine);
    try {
      return await mine;
    } finally {
      this.#turns.delete(turn);
    }
  }

  async #inItsPlace(
    call: Call,
    subjectId: string,
    repeatable: RepeatableCall | undefined,
    work: Work,
  ): Promise<OperationMessage> {
    using _place = await this.#places.take(subjectId, call.signal);
    return await this.#begin(call, subjectId, repeatable, work);
  }

  /** Work of the service's own, which no call asked for: as `begin`, in the name of `createdBy`. */
  beginOwn(createdBy: string, work: Work): Promise<OperationMessage> {
    const uncounted: Work = async (em) => ({ ...(await work(em)), countsAsRunning: false });
    return this.#begin({ em: this.#fork() }, createdBy, undefined, uncounted);
  }

  async #begin(
    call: Pick<Call, 'em'> & Partial<Pick<Call, 'subject' | 'grants' | 'audit'>>,
    createdBy: string,
    repeatable: RepeatableCall | undefined,
    work: Work,
  ): Promise<OperationMessage> {
    const id = newId('operation');
    const aftermath: Aftermath = { cancelled: [], hasJob: false, freesData: false };
    const operation = await this.#transaction(call.em, async (em) => {
      this.#aftermaths.set(em, aftermath);
      if (repeatable !== undefined) {
        const earlier = await takeKey(em, repeatable, id);
        if (earlier !== undefined) return earlier;
      }
      const made = await work(em);
      aftermath.freesData = 'freesData' in made && (made.freesData ?? false);
      if ('existing' in made) {
        if (repeatable !== undefined) await redirectKey(em, repeatable, made.existing.id);
        return made.existing;
      }
      const created = em.create(Operation, newRow(id, createdBy, made));
      // What is removed is there until the flush, what is made is there after it.
      const audited = made.removesResource === true ? await this.#record(em, call, id, made) : undefined;
      await em.flush();
      const audit = audited ?? (await this.#record(em, call, id, made));
      if (made.job !== undefined) {
        aftermath.hasJob = true;
        const countedFolderId = made.countsAsRunning === false ? null : made.folderId;
        if (countedFolderId !== null) await this.#reserveRunning?.(em, countedFolderId);
        // Work that follows a cancelled job must not hold a runner's place while that job ends.
        const afterOperationId = aftermath.cancelled[0];
        await insertJob(em, {
          operationId: id,
          pinnedRoots: [],
          ...made.job,
          afterOperationId,
          authority: authorityOf(call, made.job),
          countedFolderId,
          audit,
        });
      }
      return created;
    });
    if (aftermath.hasJob || aftermath.cancelled.length > 0) this.#bell.ring(aftermath.cancelled);
    if (aftermath.freesData) this.#bell.freed();
    return toOperationMessage(operation);
  }

  /** The event of what the transaction changes, where a call asked for it. */
  #record(
    em: EntityManager,
    { audit }: Partial<Pick<Call, 'audit'>>,
    operationId: string,
    { folderId, resourceId, job, response }: NewOperation,
  ): Promise<AuditEventJson | undefined> | undefined {
    const status = job === undefined ? 'DONE' : 'STARTED';
    return audit?.record(em, { status, folderId, resourceId, operationId, ...effectOf(response) });
  }

  /** A transaction with an identity map of its own. */
  async #transaction<Answer>(em: EntityManager, body: (em: EntityManager) => Promise<Answer>): Promise<Answer> {
    try {
      return await em.fork().transactional(body);
    } catch (error) {
      if (isTransientDatabaseError(error)) throw new TransientError('The database did not answer; try again', { cause: error });
      throw error;
    }
  }

  /**
   * The answer of an earlier call under the same idempotency key, for what a method must not even look at again: a repeated Delete finds
   * no resource. @throws DomainError INVALID_ARGUMENT when the key was used for another request.
   */
  async replay(call: Call): Promise<OperationMessage | undefined> {
    const repeatable = repeatableCall(call, this.#keyWindowMs);
    if (repeatable === undefined) return undefined;
    const earlier = await findRepeated(call.em.fork(), repeatable);
    if (earlier === undefined) return undefined;
    await authorizeOperation(call, 'get', earlier);
    return toOperationMessage(earlier);
  }

  /**
   * Wraps a method that answers operations: a repeat of a call that succeeded is answered before the method looks at anything, or when
   * the method fails because the first call has just ended.
   */
  idempotent<Request>(method: Method<Request, OperationMessage>): Method<Request, OperationMessage> {
    return async (request, call) => {
      if (call.idempotencyKey === undefined || call.subject === undefined) return method(request, call);
      const earlier = await this.replay(call);
      if (earlier !== undefined) return earlier;
      try {
        return await method(request, call);
      } catch (error) {
        const meanwhile = await this.replay(call).catch(() => undefined);
        if (meanwhile !== undefined) return meanwhile;
        throw error;
      }
    };
  }

  /** The unfinished operation of that description, to answer a second call with what the first one started; undefined when there is none. */
  async running(em: EntityManager, resourceId: string, description: string): Promise<ExistingOperation | undefined> {
    const existing = await em.findOne(
      Operation,
      { resourceId, description, done: false },
      { orderBy: { createdAt: 'desc', id: 'desc' } },
    );
    return existing === null ? undefined : { existing };
  }

  /**
   * Asks the unfinished operations of a resource to end, in the caller's transaction: cancellable by clients or not. The job that the
   * same transaction begins is not run before the cancelled one has ended.
   */
  async requestCancel(em: EntityManager, resourceId: string): Promise<void> {
    const flagged = await flagJobs(em, await unfinishedOperations(em, resourceId));
    await flagOperations(em, flagged);
    // Outside of begin() nobody rings: runners then see the flag when they renew, within seconds.
    this.#aftermaths.get(em)?.cancelled.push(...flagged);
  }

  /**
   * What a client's Cancel does: best effort, and answers the operation as it is then. One that is done is answered unchanged.
   * @throws DomainError FAILED_PRECONDITION when it runs and cannot be cancelled.
   */
  async cancel(call: Call, operation: Operation): Promise<OperationMessage> {
    if (operation.done) return toOperationMessage(operation);
    if (!operation.cancellable) throw failedPrecondition(`Operation ${operation.id} cannot be cancelled: wait until it is done`);
    await this.#transaction(call.em, async (em) => {
      await flagJobs(em, [operation.id]);
      await flagOperations(em, [operation.id]);
      const { id, folderId } = operation;
      await call.audit?.record(em, { status: 'DONE', folderId, resourceId: id });
    });
    this.#bell.ring([operation.id]);
    return toOperationMessage(await call.em.fork().findOneOrFail(Operation, { id: operation.id }));
  }

  /**
   * For handlers: resolves when no older operation of the resource is unfinished. (Older ones only: two that waited for each other would
   * wait for ever.) @throws TransientError after 30 s, signal.reason when aborted.
   */
  async whenOthersEnded(resourceId: string, operationId: string, signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + waitBoundMs;
    const wake = Promise.withResolvers<void>();
    let woken = wake;
    using _subscription = this.#bell.subscribe({
      onWork: () => {},
      onCancel: () => {},
      onEnded: () => {
        woken.resolve();
        woken = Promise.withResolvers();
      },
    });
    let pauseMs = 20;
    while (true) {
      signal.throwIfAborted();
      const next = woken.promise;
      const unfinished = await unfinishedOperations(this.#fork(), resourceId);
      const older = unfinished.slice(unfinished.indexOf(operationId) + 1);
      if (older.length === 0) return;
      if (performance.now() > deadline) throw new TransientError(`Operation ${older[0]} on ${resourceId} has not ended yet`);
      await Promise.race([next, delay(pauseMs, undefined, { signal }).catch(() => {})]);
      pauseMs = Math.min(pauseMs * 2, 1000);
    }
  }
}

/** What access bindings really changed; every other effect is what the request says. */
function effectOf(response: PackedMessage | undefined): { details?: JsonObject } {
  if (response?.typeUrl.endsWith('/yandex.cloud.access.AccessBindingsOperationResult') !== true) return {};
  const { effectiveDeltas } = AccessBindingsOperationResult.toJSON(
    AccessBindingsOperationResult.decode(response.value),
  ) as JsonObject;
  return { details: { effectiveDeltas: effectiveDeltas ?? [] } };
}

function repeatableCall(call: Call, windowMs: number): RepeatableCall | undefined {
  const { idempotencyKey: key, subject, method } = call;
  if (key === undefined || subject === undefined) return undefined;
  return { subjectId: subject.id, method, key, requestHash: hashRequest(call.requestBytes()), windowMs };
}

function newRow(id: string, createdBy: string, made: NewOperation) {
  const now = new Date();
  return {
    id,
    createdBy,
    folderId: made.folderId,
    resourceId: made.resourceId,
    resourceKind: made.resourceKind,
    description: made.description,
    createdAt: now,
    modifiedAt: now,
    metadataType: made.metadata.typeUrl,
    metadata: made.metadata.value,
    done: made.response !== undefined,
    error: null,
    responseType: made.response?.typeUrl ?? null,
    response: made.response?.value ?? null,
    cancellable: made.cancellable ?? false,
    cancelRequestedAt: null,
    bytesDone: 0,
    bytesTotal: 0,
    bytesPerSecond: 0,
    phase: made.response === undefined ? 'queued' : 'done',
  };
}

/** Each of the grants once: an attempt of a transaction that failed has left its own behind. */
function authorityOf(
  { subject, grants = [] }: Partial<Pick<Call, 'subject' | 'grants'>>,
  job: JobOrder,
): JobAuthority | undefined {
  if (subject === undefined || job.unconditional === true) return undefined;
  return { subject, grants: [...new Map(grants.map((grant) => [JSON.stringify(grant), grant])).values()] };
}
