// The ledger of garbage collection in PostgreSQL (src/storage/ledger.ts tells what each statement must promise). Every method is one
// statement of the collector's own session, or two where a commit must lie between them; each sees one snapshot, taken when it begins.
import { type PageAddress, parsePageAddress } from '../storage/address.ts';
import type { Claim, Condemned, Ledger } from '../storage/ledger.ts';
import { markOrphans, registeredWriters, unclaimed } from './claims.ts';
import type { CollectorSession } from './collector-session.ts';
import { rootsInUse } from './roots.ts';

/** These condemnations, where they stand and nobody may be deleting their objects; locked in one order, so that nobody deadlocks. */
const standing = `
  select key from condemned_objects
  where (key, condemnation) in (select * from unnest($1::text[], $2::text[])) and ${unclaimed}
  order by key for update`;

export class PostgresLedger implements Ledger {
  readonly #session: CollectorSession;

  constructor(session: CollectorSession) {
    this.#session = session;
  }

  async *roots(signal?: AbortSignal): AsyncGenerator<PageAddress> {
    const rows = await this.#query<{ root: string }>(signal, rootsInUse);
    for (const { root } of rows) yield parsePageAddress(root);
  }

  async condemn(keys: readonly string[], signal?: AbortSignal): Promise<number> {
    const condemned = await this.#query(
      signal,
      `insert into condemned_objects (key, condemnation, condemned_at)
       select key, gen_random_uuid()::text, clock_timestamp() from unnest($1::text[]) as keys (key) order by key
       on conflict do nothing returning key`,
      [keys],
    );
    // The insert is committed: a writer that this statement does not see is one that sees the condemnation.
    await this.#query(
      signal,
      `with noted as materialized (
         select key from condemned_objects where writers is null order by key for update
       )
       update condemned_objects set writers = (${registeredWriters})
       from noted where condemned_objects.key = noted.key and writers is null`,
    );
    return condemned.length;
  }

  async *expired(signal?: AbortSignal): AsyncGenerator<Condemned> {
    await this.#query(signal, markOrphans);
    yield* await this.#query<Condemned & { key: string }>(
      signal,
      `select key, condemnation from condemned_objects
       where writers is not null and not writers && (${registeredWriters}) and ${unclaimed}
       order by key`,
    );
  }

  async withdraw(condemned: readonly Condemned[], signal?: AbortSignal): Promise<void> {
    await this.#query(
      signal,
      `with standing as materialized (${standing})
       delete from condemned_objects using standing where condemned_objects.key = standing.key`,
      split(condemned),
    );
  }

  async claim(condemned: readonly Condemned[], signal?: AbortSignal): Promise<Claim> {
    const rows = await this.#query<{ key: string }>(
      signal,
      `with standing as materialized (${standing})
       update condemned_objects set claimed_by = $3, orphaned_at = null
       from standing where condemned_objects.key = standing.key returning condemned_objects.key`,
      [...split(condemned), this.#session.token],
    );
    return this.#claimOf(rows.map(({ key }) => key));
  }

  #claimOf(keys: readonly string[]): Claim {
    const session = this.#session;
    const held = new Set(keys);
    const begun = new Set<string>();
    return {
      keys,
      begin(key) {
        if (!held.has(key)) throw new Error(`${key} is not claimed`);
        session.assertAlive();
        begun.add(key);
      },
      async settle(settled) {
        await session.query('delete from condemned_objects where key = any ($1::text[]) and claimed_by = $2', [
          settled,
          session.token,
        ]);
        for (const key of settled) held.delete(key);
      },
      async [Symbol.asyncDispose]() {
        if (held.size === 0) return;
        // What was begun is claimed for as long as the delete can take.
        await session.query(
          `update condemned_objects
           set claimed_by = case when key = any ($3::text[]) then claimed_by end,
               orphaned_at = case when key = any ($3::text[]) then clock_timestamp() end
           where key = any ($1::text[]) and claimed_by = $2`,
          [[...held], session.token, [...begun]],
        );
      },
    };
  }

  async #query<Row extends object>(
    signal: AbortSignal | undefined,
    sql: string,
    parameters: readonly unknown[] = [],
  ): Promise<Row[]> {
    signal?.throwIfAborted();
    return this.#session.query<Row & Record<string, unknown>>(sql, parameters);
  }
}

const split = (condemned: readonly Condemned[]): [keys: string[], condemnations: string[]] => [
  condemned.map(({ key }) => key),
  condemned.map(({ condemnation }) => condemnation),
];
