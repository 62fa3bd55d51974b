// What does the work of one kind of operation, and what it is given. Handlers know nothing of leases: they work, heed `signal`, keep
// checkpoints, and answer what is to be changed when the work is done.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { DomainError } from '../platform/errors.ts';
import type { JobOrder } from './operations.ts';
import type { PackedMessage } from './pack.ts';

export interface JobHandler<Payload = unknown, Checkpoint = unknown> {
  /** `image.import`. Jobs of a kind that no handler here has are left to other processes. */
  readonly kind: string;
  /**
   * Does the work. It may run again after any part of it (a crash, a lost lease, a restart), and must bear that.
   * @throws DomainError to end the operation with that error, after `abandon`.
   * @throws TransientError to run again later; the last one's message is what the caller sees when that does not help.
   * Anything else is a bug: logged, tried a few times more, then shown as INTERNAL without its text.
   */
  run(job: RunningJob<Payload, Checkpoint>): Promise<Effect>;
  /**
   * Removes what the operation half made: in the transaction that ends the operation with `error`. It may run though `run` never did.
   * Work outside of the database is not for here: what nobody reaches is garbage.
   */
  abandon(em: EntityManager, payload: Payload, error: DomainError): Promise<void>;
}

/**
 * Applied in the one transaction that ends the operation, and answers its response. Called again when that transaction has to be: it
 * reads what it changes through `em`. A DomainError thrown here ends the operation with that error.
 *
 * It may answer a job instead, of another kind: that takes the place of this one in the same transaction, and goes on with the operation.
 */
export type Effect = (em: EntityManager) => Promise<PackedMessage | JobOrder>;

export interface RunningJob<Payload = unknown, Checkpoint = unknown> {
  readonly operationId: string;
  /** From 1. */
  readonly attempt: number;
  readonly payload: Payload;
  /** What an earlier attempt saved last, and what this one has. */
  readonly checkpoint: Checkpoint | undefined;
  /** Its reason is a JobAborted. Work must end soon after: nothing that it does from then on counts. */
  readonly signal: AbortSignal;
  /** Notes how far the work is; cheap, written at most once a second. What is left out stays as it was. */
  progress(report: ProgressReport): void;
  /**
   * Keeps a value (as JSON) for a later attempt, and roots of layers that garbage collection must leave alone until the next
   * checkpoint or the end. A value that differs from the last one counts as headway: the bound on failed attempts starts anew.
   * @throws LeaseLost when another attempt has taken over; JobAborted when `signal` fired while the database was away.
   */
  saveCheckpoint(value: Checkpoint, options?: { pinnedRoots?: readonly string[] }): Promise<void>;
}

export interface ProgressReport {
  bytesDone?: number;
  bytesTotal?: number;
  /** A lower-case word for people: `importing`. */
  phase?: string;
}

export type AbortCause = 'cancelled' | 'lease-lost' | 'shutdown';

/** Why a running job's signal fired. */
export class JobAborted extends Error {
  override readonly name: string = 'JobAborted';
  readonly why: AbortCause;

  constructor(why: AbortCause) {
    super(`the job was stopped: ${why}`);
    this.why = why;
  }
}

/** This attempt no longer owns its job: nothing was changed, and nothing may be. */
export class LeaseLost extends JobAborted {
  override readonly name = 'LeaseLost';

  constructor() {
    super('lease-lost');
  }
}
