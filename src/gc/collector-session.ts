// A collector's connection to the database, its own: claims of objects live and die with it. One collector runs per database; scrub on
// schedule takes turns in the same way, by a lock of its own.
import { randomInt } from 'node:crypto';
import { Socket } from 'node:net';
import { Client, type QueryResultRow } from 'pg';
import { isTransientDatabaseError } from '../db/database-error.ts';
import { TransientError } from '../platform/errors.ts';
import { confirmedWithinMs, lockClass } from './claims.ts';

const heartbeatMs = 1_000;
const connectTimeoutMs = 5_000;
const statementTimeoutMs = 60_000;
/** Second keys of the advisory locks that let one run per database. Numbers of sessions are above. */
const collectorLock = 0;
export const scrubLock = -1;

/** After an abort, statements under way are given so long to end. */
const graceMs = 3_000;

export class CollectorSession implements AsyncDisposable {
  /** Names the claims of this session; its lock is held as long as the session lives. */
  readonly token = randomInt(1, 2 ** 31 - 1);
  readonly #socket = new Socket();
  readonly #client: Client;
  #confirmedAtMs = -Infinity;
  #hasEnded = false;
  #underWay = 0;
  #heartbeat: NodeJS.Timeout | undefined;

  private constructor(url: string) {
    this.#client = new Client({
      connectionString: url,
      application_name: 'obraz-gc',
      connectionTimeoutMillis: connectTimeoutMs,
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
      statement_timeout: statementTimeoutMs,
      query_timeout: statementTimeoutMs + 5_000,
      stream: () => this.#socket,
    });
    const end = () => void (this.#hasEnded = true);
    this.#client.on('error', end);
    this.#client.on('end', end);
  }

  /** Undefined when another one with that lock runs. @throws TransientError when the database is away; signal.reason. */
  static async open(url: string, signal?: AbortSignal, lock = collectorLock): Promise<CollectorSession | undefined> {
    signal?.throwIfAborted();
    const session = new CollectorSession(url);
    try {
      await session.#client.connect();
      const [row] = await session.query<{ alone: boolean }>('select pg_try_advisory_lock($1, $2) as alone', [lockClass, lock]);
      if (row?.alone === true) {
        await session.query('select pg_advisory_lock($1, $2)', [lockClass, session.token]);
        session.#live(signal);
        return session;
      }
    } catch (error) {
      await session[Symbol.asyncDispose]();
      throw asTransient(error);
    }
    await session[Symbol.asyncDispose]();
    return undefined;
  }

  #live(signal: AbortSignal | undefined): void {
    const cut = () => void setTimeout(() => this.#socket.destroy(), graceMs).unref();
    signal?.addEventListener('abort', cut, { once: true });
    this.#heartbeat = setInterval(() => {
      if (this.#underWay === 0) this.query('select 1').catch(() => {});
    }, heartbeatMs);
    this.#heartbeat.unref();
    this.#client.once('end', () => signal?.removeEventListener('abort', cut));
  }

  /** @throws TransientError when the database is away. */
  async query<Row extends QueryResultRow = QueryResultRow>(sql: string, parameters: readonly unknown[] = []): Promise<Row[]> {
    const sentAtMs = performance.now();
    this.#underWay += 1;
    try {
      const { rows } = await this.#client.query<Row>(sql, [...parameters]);
      // Behind others in the queue it was sent later: never earlier than thought.
      this.#confirmedAtMs = Math.max(this.#confirmedAtMs, sentAtMs);
      return rows;
    } catch (error) {
      throw asTransient(error);
    } finally {
      this.#underWay -= 1;
    }
  }

  /** @throws TransientError when the session may have ended. */
  assertAlive(): void {
    if (this.#hasEnded || performance.now() - this.#confirmedAtMs > confirmedWithinMs)
      throw new TransientError('the collector may have lost its session with the database');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#heartbeat);
    const timer = setTimeout(() => this.#socket.destroy(), graceMs);
    await this.#client.end().catch(() => {});
    this.#socket.destroy();
    clearTimeout(timer);
  }
}

const asTransient = (error: unknown): unknown =>
  isTransientDatabaseError(error) ? new TransientError('the database is away', { cause: error }) : error;
