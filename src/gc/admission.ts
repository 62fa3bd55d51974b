// Admission of puts (src/storage/admission.ts tells the protocol), for the attempts of jobs. Main threads ask for their worker threads;
// what is asked while a query is under way goes into the next one.
import { setTimeout as delay } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import { isTransientDatabaseError } from '../db/database-error.ts';
import type { Fence } from '../operations/job-queries.ts';
import { TransientError } from '../platform/errors.ts';
import type { Admission, Admitted } from '../storage/admission.ts';
import { markOrphans, unclaimed } from './claims.ts';

/** Asked in one query at most. */
const batchKeys = 500;
const claimPollMs = 200;

export interface AdmissionsOptions {
  fork: () => EntityManager;
  /** How long an object that is being deleted is waited for; longer than claims.deleteBoundMs. */
  waitMs?: number;
}

interface Ask {
  writer: Fence;
  key: string;
  resolve: (answer: Answer) => void;
  reject: (error: unknown) => void;
}

type Answer = Admitted | 'claimed' | 'refused';

/**
 * In one snapshot: whether the writer is registered, and whether its object is condemned. A stopped process that wakes up after another
 * attempt has taken over is refused. A claim that is made meanwhile holds the row: then it is seen again when the lock is ours, and the
 * object is neither withdrawn nor fresh.
 */
const admit = `
  with asked as materialized (
    select * from unnest($1::text[], $2::int[], $3::text[]) with ordinality as asked (operation_id, attempt, key, position)
  ),
  registered as materialized (
    select position, key from asked join jobs using (operation_id, attempt) where jobs.lease_until > clock_timestamp()
  ),
  found as materialized (
    select key from condemned_objects where key = any (array(select key from registered))
  ),
  standing as materialized (
    select key from condemned_objects where key = any (array(select key from registered)) and ${unclaimed} order by key for update
  ),
  withdrawn as (
    delete from condemned_objects using standing where condemned_objects.key = standing.key returning condemned_objects.key
  )
  select case when registered.position is null then 'refused'
              when withdrawn.key is not null then 'rewrite'
              when found.key is not null then 'claimed'
              else 'fresh' end as answer
  from asked
  left join registered on registered.position = asked.position
  left join withdrawn on withdrawn.key = asked.key
  left join found on found.key = asked.key
  order by asked.position`;

export class Admissions {
  readonly #fork: () => EntityManager;
  readonly #waitMs: number;
  readonly #asks: Ask[] = [];
  #isAsking = false;

  constructor({ fork, waitMs = 30_000 }: AdmissionsOptions) {
    this.#fork = fork;
    this.#waitMs = waitMs;
  }

  /** What one attempt of a job asks. @throws TransientError when the attempt has lost its job, too. */
  of({ operationId, attempt }: Fence): Admission {
    const writer = { operationId, attempt };
    return (keys, signal) => Promise.all(keys.map((key) => this.#admit(writer, key, signal)));
  }

  async #admit(writer: Fence, key: string, signal: AbortSignal | undefined): Promise<Admitted> {
    const deadlineMs = performance.now() + this.#waitMs;
    while (true) {
      signal?.throwIfAborted();
      const answer = await this.#ask(writer, key);
      if (answer === 'refused') throw new TransientError('Another attempt has taken over');
      if (answer !== 'claimed') return answer;
      if (performance.now() > deadlineMs) throw new TransientError('The data is being deleted; try again');
      await this.#markOrphans();
      await delay(claimPollMs, undefined, signal === undefined ? {} : { signal }).catch(() => {});
    }
  }

  #ask(writer: Fence, key: string): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#asks.push({ writer, key, resolve, reject });
      if (this.#isAsking) return;
      this.#isAsking = true;
      // What others ask in this moment goes along.
      setImmediate(() => void this.#answerAll());
    });
  }

  async #answerAll(): Promise<void> {
    while (this.#asks.length > 0) await this.#answer(this.#asks.splice(0, batchKeys));
    this.#isAsking = false;
  }

  async #answer(asks: readonly Ask[]): Promise<void> {
    try {
      const rows = await query<{ answer: Answer }>(this.#fork(), admit, [
        asks.map(({ writer }) => writer.operationId),
        asks.map(({ writer }) => writer.attempt),
        asks.map(({ key }) => key),
      ]);
      for (const [index, ask] of asks.entries()) ask.resolve(rows[index]!.answer);
    } catch (error) {
      const reason = asTransient(error);
      for (const ask of asks) ask.reject(reason);
    }
  }

  async #markOrphans(): Promise<void> {
    try {
      await query(this.#fork(), markOrphans);
    } catch (error) {
      throw asTransient(error);
    }
  }
}

const asTransient = (error: unknown): unknown =>
  isTransientDatabaseError(error) ? new TransientError('The database did not answer; try again', { cause: error }) : error;
