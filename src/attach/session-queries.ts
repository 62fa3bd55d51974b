// Every statement on attach sessions, in one place, because the safety of writers is in how they fit together with the generations
// (generation-queries.ts). What they keep:
//
// - One writer. A disk has a writer while a session of mode READ_WRITE has a lease. A unique index lets one such row exist per disk;
//   a new writer removes the row of one whose lease has ended, with the disk's row locked.
// - A lease that has ended never comes back: renewals and all that a writer changes in the database ask for a lease that has not.
//   So a process that was stopped and wakes up finds that it may change nothing.
// - All instants are the database's. A process only measures how long ago it asked (session-keeper.ts).
// - What a session reads from is held: `base_root` is a root of garbage collection while the row is there.
// - A row goes with the event of its end, in one transaction, whoever removes it: what removes rows answers them for that.
// - Rows are locked in one order: disk, session, generation, job. Renewals skip rows that are locked.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { AttachedBy, EndedSession } from '../audit/attach-audit.ts';
import { query } from '../db/bound-query.ts';
import type { SessionMode } from './attach-session.entity.ts';

export const leaseMs = 15_000;

export interface NewSession {
  id: string;
  machineId: string;
  resourceId: string;
  mode: SessionMode;
  subjectId: string;
  peer: string;
  baseRoot: string | null;
  /** Null of one that only reads: no events are left of those. */
  attachedBy: AttachedBy | null;
}

export interface SessionRow extends Omit<NewSession, 'attachedBy'> {
  createdAt: Date;
}

const ended = 'returning id, attached_by as "attachedBy"';

const columns = `id, machine_id as "machineId", resource_id as "resourceId", mode, subject_id as "subjectId", peer,
  base_root as "baseRoot", created_at as "createdAt"`;

type Written<Row> = Omit<Row, 'createdAt'> & { createdAt: string | Date };

const toRow = (row: Written<SessionRow>): SessionRow => ({ ...row, createdAt: new Date(row.createdAt) });

/** Who has the disk attached for writing. With the disk's row locked the answer holds until the transaction ends. */
export async function liveWriter(em: EntityManager, diskId: string): Promise<SessionRow | undefined> {
  const [row] = await query<Written<SessionRow>>(
    em,
    `select ${columns} from attach_sessions
     where resource_id = $1 and mode = 'READ_WRITE' and lease_until > clock_timestamp()`,
    [diskId],
  );
  return row && toRow(row);
}

/**
 * In a transaction that has the resource's row locked and, for a writer, has seen that there is none. Answers the session that it replaces:
 * of a writer whose lease has ended.
 */
export async function insertSession(em: EntityManager, session: NewSession, lease = leaseMs): Promise<EndedSession[]> {
  const { id, machineId, resourceId, mode, subjectId, peer, baseRoot, attachedBy } = session;
  const replaced =
    mode === 'READ_ONLY'
      ? []
      : await query<EndedSession>(
          em,
          `delete from attach_sessions where resource_id = $1 and mode = 'READ_WRITE' and lease_until <= clock_timestamp() ${ended}`,
          [resourceId],
        );
  await query(
    em,
    `insert into attach_sessions
       (id, machine_id, resource_id, mode, subject_id, peer, base_root, attached_by, created_at, lease_until)
     values ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, clock_timestamp(), clock_timestamp() + $9 * interval '1 millisecond')`,
    [id, machineId, resourceId, mode, subjectId, peer, baseRoot, attachedBy && JSON.stringify(attachedBy), lease],
  );
  return replaced;
}

export interface RenewedSession {
  id: string;
  /** False: the lease has ended, or the row is gone. */
  held: boolean;
  /** False while held: the row was locked just then; ask again soon. */
  renewed: boolean;
}

/** Renews all of a process in one statement. It waits for no lock: one slow row must not cost the others their leases. */
export const renewSessions = (em: EntityManager, ids: readonly string[], lease = leaseMs): Promise<RenewedSession[]> =>
  query<RenewedSession>(
    em,
    `with mine as (select * from unnest($1::text[]) as mine (id)),
     free as materialized (
       select id from attach_sessions join mine using (id) where lease_until > clock_timestamp() for update of attach_sessions skip locked
     ),
     renewed as (
       update attach_sessions set lease_until = clock_timestamp() + $2 * interval '1 millisecond'
       from free where attach_sessions.id = free.id returning attach_sessions.id
     )
     select mine.id, held.id is not null as held, renewed.id is not null as renewed
     from mine
     left join attach_sessions held on held.id = mine.id and held.lease_until > clock_timestamp()
     left join renewed on renewed.id = mine.id`,
    [ids, lease],
  );

/** The session reads from `baseRoot` now, and from nothing older. */
export const moveSession = (em: EntityManager, id: string, baseRoot: string | null): Promise<unknown> =>
  query(em, 'update attach_sessions set base_root = $2 where id = $1', [id, baseRoot]);

/** Answers those that were still there. */
export const removeSessions = (em: EntityManager, ids: readonly string[]): Promise<EndedSession[]> =>
  query(em, `delete from attach_sessions where id = any ($1::text[]) ${ended}`, [ids]);

/**
 * Frees what earlier processes of this machine had open: they are dead, since this one holds the lock of the machine's folder. Before
 * the first session of this process alone.
 */
export const removeSessionsOfMachine = (em: EntityManager, machineId: string): Promise<EndedSession[]> =>
  query(em, `delete from attach_sessions where machine_id = $1 ${ended}`, [machineId]);

/** Of machines that died. Their leases have ended long ago; what they read from need not be held any more. */
export const removeExpiredSessions = (em: EntityManager): Promise<EndedSession[]> =>
  query(em, `delete from attach_sessions where lease_until < clock_timestamp() - interval '10 minutes' ${ended}`);

/** What is open, of one resource or of all, by one subject or by all, newest first. */
export async function liveSessions(
  em: EntityManager,
  { resourceId, subjectId }: { resourceId: string | undefined; subjectId?: string },
  limit: number,
): Promise<SessionRow[]> {
  const rows = await query<Written<SessionRow>>(
    em,
    `select ${columns} from attach_sessions
     where lease_until > clock_timestamp() and ($1::text is null or resource_id = $1) and ($2::text is null or subject_id = $2)
     order by created_at desc, id limit $3`,
    [resourceId ?? null, subjectId ?? null, limit],
  );
  return rows.map(toRow);
}
