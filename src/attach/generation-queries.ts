// Every statement on generations. The protocol, of which session-queries.ts has the leases:
//
// 1. A generation's file is written by one session object of one process, which holds the lock of the machine's folder. Nobody else
//    ever appends to it, and nobody but that machine reads it.
// 2. `beginGeneration` commits before the first write of the generation is acknowledged. It names the machine in the disk's row, so
//    that from then on the disk is not its base alone: captures go to that machine, and no other machine attaches the disk.
// 3. A generation is sealed by its writer, which has a lease and has synced the file; or, when the writer has died or lost its lease,
//    by the machine, which knows that the session object is gone. Its length is final then: what lies behind it is never read.
// 4. A sealed generation goes in the transaction that puts its bytes into the disk's base (`replaceWithBase`), or when the disk is
//    deleted. That transaction is refused when the base or the generations are not those that were folded.
// 5. Numbers of a disk's generations only rise (`last_generation`): what was noted of one is never true of another.
// 6. The files go after that transaction. A file without a row is garbage; a row without its file is damage, and is never passed over.
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import { TransientError } from '../platform/errors.ts';
import type { GenerationState } from './disk-generation.entity.ts';

export interface GenerationRow {
  diskId: string;
  generation: number;
  state: GenerationState;
  machineId: string;
  writerId: string;
  lengthBytes: number | null;
}

const columns = `disk_id as "diskId", generation, state, machine_id as "machineId", writer_id as "writerId",
  length_bytes::float8 as "lengthBytes"`;

/** Ascending. */
export const generationsOf = (em: EntityManager, diskId: string): Promise<GenerationRow[]> =>
  query<GenerationRow>(em, `select ${columns} from disk_generations where disk_id = $1 order by generation`, [diskId]);

export const generationsOfMachine = (em: EntityManager, machineId: string): Promise<GenerationRow[]> =>
  query<GenerationRow>(em, `select ${columns} from disk_generations where machine_id = $1 order by disk_id, generation`, [
    machineId,
  ]);

/** The last generation that is sealed or committed: what a disk held at this moment, when its writer has just sealed. */
export async function sealedThrough(em: EntityManager, diskId: string): Promise<number | undefined> {
  const [row] = await query<{ through: number }>(
    em,
    `select coalesce(
       (select max(generation) from disk_generations where disk_id = $1 and state = 'SEALED'),
       (select min(generation) - 1 from disk_generations where disk_id = $1),
       last_generation
     ) as through from disks where id = $1`,
    [diskId],
  );
  return row?.through;
}

/** The disk's base, and the generations above it, ascending: from one snapshot. */
export async function readWritten(
  em: EntityManager,
  diskId: string,
): Promise<{ layerRoot: string | null; generations: number[] } | undefined> {
  const [row] = await query<{ layerRoot: string | null; generations: number[] }>(
    em,
    `select layer_root as "layerRoot",
       (select coalesce(array_agg(generation order by generation), '{}') from disk_generations where disk_id = disks.id) as generations
     from disks where id = $1`,
    [diskId],
  );
  return row;
}

export const lockDiskRow = (em: EntityManager, diskId: string): Promise<unknown[]> =>
  query(em, 'select id from disks where id = $1 for update', [diskId]);

type NewGeneration = Pick<GenerationRow, 'diskId' | 'generation' | 'machineId' | 'writerId'>;

/** In a transaction of its own. False: the writer has no lease, and nothing was changed. */
export async function beginGeneration(
  em: EntityManager,
  { diskId, generation, machineId, writerId }: NewGeneration,
): Promise<boolean> {
  await lockDiskRow(em, diskId);
  const rows = await query(
    em,
    `with writer as materialized (
       select id from attach_sessions
       where id = $4 and resource_id = $1 and mode = 'READ_WRITE' and lease_until > clock_timestamp() for update
     ),
     begun as (
       insert into disk_generations (disk_id, generation, state, machine_id, writer_id, created_at)
       select $1, $2, 'OPEN', $3, id, clock_timestamp() from writer
       on conflict (disk_id, generation) do update set writer_id = excluded.writer_id where disk_generations.writer_id = excluded.writer_id
       returning disk_id
     )
     update disks set machine_id = $3, last_generation = greatest(last_generation, $2)
     from begun where disks.id = begun.disk_id returning disks.id`,
    [diskId, generation, machineId, writerId],
  );
  return rows.length > 0;
}

export interface Seal {
  diskId: string;
  generation: number;
  writerId: string;
  lengthBytes: number;
}

/** By the writer itself; doing it again changes nothing. False: it has no lease, or the generation is gone or sealed otherwise. */
export async function sealGeneration(em: EntityManager, { diskId, generation, writerId, lengthBytes }: Seal): Promise<boolean> {
  const rows = await query(
    em,
    `update disk_generations set state = 'SEALED', length_bytes = $4
     where disk_id = $1 and generation = $2 and writer_id = $3 and (state = 'OPEN' or length_bytes = $4)
       and exists (select from attach_sessions where id = $3 and lease_until > clock_timestamp())
     returning disk_id`,
    [diskId, generation, writerId, lengthBytes],
  );
  return rows.length > 0;
}

/** By the machine, when no session of this process writes it any more. */
export async function sealAbandoned(
  em: EntityManager,
  { diskId, generation, writerId, lengthBytes }: Seal,
  machineId: string,
): Promise<boolean> {
  const rows = await query(
    em,
    `update disk_generations set state = 'SEALED', length_bytes = $4
     where disk_id = $1 and generation = $2 and writer_id = $3 and machine_id = $5 and state = 'OPEN' returning disk_id`,
    [diskId, generation, writerId, lengthBytes, machineId],
  );
  return rows.length > 0;
}

export interface Fold {
  diskId: string;
  /** The base and the generations that were read; ascending, all sealed, none before them. */
  base: string | null;
  generations: readonly number[];
  /** All of them over the base. */
  root: string;
}

/**
 * Puts the fold in the place of what it was made of. A session that has the disk open goes on reading what it reads: its row holds that.
 * @throws TransientError when the disk is not as it was when it was read; the transaction must go then.
 */
export async function replaceWithBase(em: EntityManager, { diskId, base, generations, root }: Fold): Promise<void> {
  const [disk] = await query<{ layerRoot: string | null }>(
    em,
    'select layer_root as "layerRoot" from disks where id = $1 for update',
    [diskId],
  );
  if (disk === undefined || disk.layerRoot !== base) throw outdated(diskId);
  const last = generations.at(-1);
  const removed = await query<{ generation: number }>(
    em,
    `delete from disk_generations where disk_id = $1 and generation <= $2 and state = 'SEALED' returning generation`,
    [diskId, last],
  );
  const isAsRead = removed.length === generations.length && removed.every(({ generation }) => generations.includes(generation));
  if (!isAsRead) throw outdated(diskId);
  await query(
    em,
    `update disks set layer_root = $2,
       machine_id = case when exists (select from disk_generations where disk_id = $1) then machine_id end
     where id = $1`,
    [diskId, root],
  );
}

const outdated = (diskId: string): TransientError => new TransientError(`Disk ${diskId} has changed meanwhile`);

/** A generation that was begun and holds nothing. */
export async function dropEmpty(em: EntityManager, diskId: string, generation: number, writerId: string): Promise<void> {
  await lockDiskRow(em, diskId);
  await query(em, 'delete from disk_generations where disk_id = $1 and generation = $2 and writer_id = $3', [
    diskId,
    generation,
    writerId,
  ]);
  await query(
    em,
    'update disks set machine_id = null where id = $1 and not exists (select from disk_generations where disk_id = $1)',
    [diskId],
  );
}

/** The disk goes, with its row locked: what was written to it goes too, and so do leases that have ended. */
export async function discardGenerations(em: EntityManager, diskId: string): Promise<void> {
  await query(em, 'delete from disk_generations where disk_id = $1', [diskId]);
  await query(em, `delete from attach_sessions where resource_id = $1 and mode = 'READ_WRITE'`, [diskId]);
}
