// The statements on the row of the service's scrub. By the database's clock, since several processes take turns.
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import type { ScrubSummary } from './scrub-pass.entity.ts';

const now = `date_trunc('milliseconds', clock_timestamp())`;

export interface PassUnderWay {
  afterKey: string;
  /** Of the parts before. */
  objects: number;
  bytes: number;
}

/** The pass to go on with, or a new one; undefined when the last one began less than `intervalMs` ago and has ended. */
export async function takeUpPass(em: EntityManager, intervalMs: number): Promise<PassUnderWay | undefined> {
  await query(
    em,
    `insert into scrub_passes (id, started_at, after_key, objects, bytes) values ('scrub', ${now}, '', 0, 0)
     on conflict (id) do update set started_at = ${now}, after_key = '', objects = 0, bytes = 0, finished_at = null
     where scrub_passes.finished_at is not null and scrub_passes.started_at <= clock_timestamp() - $1 * interval '1 millisecond'`,
    [intervalMs],
  );
  const [row] = await query<PassUnderWay>(
    em,
    `select after_key as "afterKey", objects::float8 as objects, bytes::float8 as bytes from scrub_passes where finished_at is null`,
  );
  return row;
}

export const savePass = (em: EntityManager, { afterKey, objects, bytes }: PassUnderWay): Promise<unknown> =>
  query(em, `update scrub_passes set after_key = $1, objects = $2, bytes = $3 where finished_at is null`, [
    afterKey,
    objects,
    bytes,
  ]);

export interface FinishedPass {
  objects: number;
  bytes: number;
  summary: ScrubSummary;
}

/** A pass over everything has ended, by schedule or command: the next one on schedule is due an interval after its beginning. */
export const finishPass = (em: EntityManager, pass: FinishedPass, durationMs: number): Promise<unknown> =>
  query(
    em,
    `insert into scrub_passes as pass (id, started_at, after_key, objects, bytes, finished_at, summary, summary_at)
     values ('scrub', ${now} - $4 * interval '1 millisecond', '', $1, $2, ${now}, $3::jsonb, ${now})
     on conflict (id) do update set
       
       started_at = case when pass.finished_at is null then least(pass.started_at, excluded.started_at) else excluded.started_at end,
       after_key = '', objects = $1, bytes = $2, finished_at = ${now},
       summary = $3::jsonb, summary_at = ${now}`,
    [pass.objects, pass.bytes, JSON.stringify(pass.summary), Math.round(durationMs)],
  );

/** What the last finished pass found, and when, seconds since 1970. */
export async function lastFinished(em: EntityManager): Promise<{ summary: ScrubSummary; atSeconds: number } | undefined> {
  const [row] = await query<{ summary: ScrubSummary; atSeconds: number }>(
    em,
    `select summary, extract(epoch from summary_at)::float8 as "atSeconds" from scrub_passes where summary is not null`,
  );
  return row;
}
