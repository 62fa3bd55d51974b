// The statements on events. Writers only insert, each in the transaction of what it changed, and wait for nobody. So ids and times do not
// tell the order in which transactions were committed, and a reader that went by them would miss what is committed late: readers give
// every event that they see for the first time the next number, one reader at a time, and go by the numbers.
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import type { AuditEventJson } from './event.ts';
import type { Place, Places } from './places.ts';

/** Writes an event, in the transaction of `em` where there is one, and answers it with what was looked up for it. */
export async function insertEvent(
  em: EntityManager,
  places: Places,
  event: AuditEventJson,
  place: Place,
): Promise<AuditEventJson> {
  event.resourceMetadata.path = await places.pathOf(em, place);
  const { authentication } = event;
  if (authentication.authenticated) authentication.subjectName = await places.subjectName(em, authentication.subjectId);
  await insertWholeEvent(em, event);
  return event;
}

/** Writes an event that has its path already. */
export const insertWholeEvent = (em: EntityManager, event: AuditEventJson): Promise<unknown> =>
  query(em, 'insert into audit_events (id, occurred_at, event) values ($1, $2::timestamptz, $3::jsonb)', [
    event.eventId,
    event.eventTime,
    JSON.stringify(event),
  ]);

export interface NumberedEvent {
  position: number;
  event: AuditEventJson;
}

/** Numbers or removes at most so many in one statement. */
const batchRows = 2_000;

/** Gives numbers to what has none yet. One transaction at a time does it, so that what has a lower number was seen before. */
async function numberNewEvents(em: EntityManager): Promise<void> {
  while (true) {
    const count = await em.transactional(async (inner) => {
      await query(inner, `select pg_advisory_xact_lock(hashtextextended('audit-numbers', 0))`);
      const rows = await query(
        inner,
        `with fresh as materialized (
           select id, row_number() over (order by occurred_at, id) as place
           from (select id, occurred_at from audit_events where position is null order by occurred_at, id limit $1) as first
         )
         update audit_events
         set position = (select coalesce(max(position), 0) from audit_events) + fresh.place
         from fresh where audit_events.id = fresh.id
         returning 1`,
        [batchRows],
      );
      return rows.length;
    });
    if (count < batchRows) return;
  }
}

/** Whether anybody has to take the lock: readers that wait for news ask often. */
async function hasNewEvents(em: EntityManager): Promise<boolean> {
  const rows = await query(em, 'select 1 from audit_events where position is null limit 1');
  return rows.length > 0;
}

/** What readers hold at once of events that may have hundreds of KiB each, as text. */
const maxBatchBytes = 4 * 1024 * 1024;

/**
 * Events after that number, in their order, at most `limit` and about 4 MiB, but one at least when there is one: only an empty answer says
 * that there are no more. Every event is answered once to whoever goes on from the last number.
 */
export async function eventsAfter(em: EntityManager, position: number, limit: number): Promise<NumberedEvent[]> {
  if (await hasNewEvents(em)) await numberNewEvents(em);
  // One after another, so that nothing is read, and unpacked, that is not answered.
  return query<NumberedEvent>(
    em,
    `with recursive batch as (
       (select position, event, octet_length(event::text)::int8 as bytes, 1 as place
        from audit_events where position > $1 order by position limit 1)
       union all
       select next.position, next.event, batch.bytes + octet_length(next.event::text), batch.place + 1
       from batch cross join lateral
         (select position, event from audit_events where position > batch.position order by position limit 1) as next
       where batch.place < $2 and batch.bytes < $3
     )
     select position::float8 as position, event from batch order by position`,
    [position, limit, maxBatchBytes],
  );
}

/** The number to go on from for a reader that wants the last `count` events. */
export async function positionBeforeLast(em: EntityManager, count: number): Promise<number> {
  if (await hasNewEvents(em)) await numberNewEvents(em);
  const [row] = await query<{ position: number }>(
    em,
    `select coalesce(
       (select min(position) - 1 from (select position from audit_events where position is not null order by position desc limit $1) as last),
       (select max(position) from audit_events), 0)::float8 as position`,
    [count],
  );
  return row!.position;
}

/** An event that has its number, by which a reader tells where it is. */
export interface EventPlace {
  position: number;
  eventId: string;
}

const placeColumns = 'position::float8 as position, id as "eventId"';

/** The one of that number; undefined when it was removed, or there never was one. */
export async function eventAt(em: EntityManager, position: number): Promise<EventPlace | undefined> {
  const [row] = await query<EventPlace>(em, `select ${placeColumns} from audit_events where position = $1`, [position]);
  return row;
}

/** The one of the highest number; those that have none yet get none by it. */
export async function lastNumbered(em: EntityManager): Promise<EventPlace | undefined> {
  const [row] = await query<EventPlace>(
    em,
    `select ${placeColumns} from audit_events where position is not null order by position desc limit 1`,
  );
  return row;
}

/** The last of these events that is here. */
export async function lastOf(em: EntityManager, eventIds: readonly string[]): Promise<EventPlace | undefined> {
  if (eventIds.length === 0) return undefined;
  if (await hasNewEvents(em)) await numberNewEvents(em);
  const [row] = await query<EventPlace>(
    em,
    `select ${placeColumns} from unnest($1::text[]) with ordinality as line (id, place) join audit_events using (id)
     where position is not null order by place desc limit 1`,
    [eventIds],
  );
  return row;
}

/**
 * Removes what is older, but for the last one that has a number, which keeps the numbers going up; answers how many. In batches, so that
 * no statement is long.
 */
export async function removeOldEvents(em: EntityManager, keepMs: number, signal?: AbortSignal): Promise<number> {
  let removed = 0;
  while (true) {
    if (signal?.aborted === true) break;
    const [row] = await query<{ count: number }>(
      em,
      `with old as materialized (
         select ctid from audit_events where occurred_at < now() - $1 * interval '1 millisecond'
           and (position is null or position < (select max(position) from audit_events))
         order by occurred_at limit $2 for update skip locked
       ), gone as (delete from audit_events using old where audit_events.ctid = old.ctid returning 1)
       select count(*)::int as count from gone`,
      [keepMs, batchRows],
    );
    removed += row!.count;
    if (row!.count < batchRows) break;
  }
  return removed;
}
