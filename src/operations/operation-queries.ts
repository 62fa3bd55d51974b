// The statements on operations that are made beside the entity: fenced, or on many rows at once.
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import type { Fence } from './job-queries.ts';
import type { PackedMessage } from './pack.ts';

export interface ProgressRow extends Fence {
  bytesDone: number;
  bytesTotal: number;
  bytesPerSecond: number;
  phase: string;
}

// Never before what clients have seen, whatever the clocks of the machines that wrote it.
const laterThanBefore = `greatest(operations.modified_at, date_trunc('milliseconds', clock_timestamp()))`;

/** Writes the progress of running jobs in one statement; those whose fence fails are left as they are. */
export const storeProgress = (em: EntityManager, rows: readonly ProgressRow[]): Promise<unknown> =>
  query(
    em,
    `update operations
     set bytes_done = news.bytes_done, bytes_total = news.bytes_total, bytes_per_second = news.bytes_per_second, phase = news.phase,
         modified_at = ${laterThanBefore}
     from unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[])
            as news (operation_id, attempt, bytes_done, bytes_total, bytes_per_second, phase)
     join jobs on jobs.operation_id = news.operation_id and jobs.attempt = news.attempt and jobs.lease_until > now()
     where operations.id = news.operation_id and not operations.done`,
    [
      rows.map(({ operationId }) => operationId),
      rows.map(({ attempt }) => attempt),
      rows.map(({ bytesDone }) => bytesDone),
      rows.map(({ bytesTotal }) => bytesTotal),
      rows.map(({ bytesPerSecond }) => bytesPerSecond),
      rows.map(({ phase }) => phase),
    ],
  );

/** How an operation ended: exactly one of the two. */
export type Result = { response: PackedMessage } | { error: Uint8Array };

/** Ends the operation, in the transaction that removed its job. `progress` is the last that the job told. */
export async function endOperation(
  em: EntityManager,
  operationId: string,
  result: Result,
  progress: { bytesDone: number; bytesTotal: number },
): Promise<void> {
  const response = 'response' in result ? result.response : undefined;
  const rows = await query(
    em,
    `update operations
     set done = true, error = $2, response_type = $3, response = $4, modified_at = ${laterThanBefore},
         bytes_done = greatest(bytes_done, $5::bigint), bytes_total = greatest(bytes_total, $6::bigint), bytes_per_second = 0, phase = $7
     where id = $1 and not done returning id`,
    [
      operationId,
      'error' in result ? Buffer.from(result.error) : null,
      response?.typeUrl ?? null,
      response === undefined ? null : Buffer.from(response.value),
      progress.bytesDone,
      progress.bytesTotal,
      response === undefined ? 'failed' : 'done',
    ],
  );
  if (rows.length === 0) throw new Error(`operation ${operationId} had a job though it was done, or is not there`);
}

/** Notes that somebody wants these operations cancelled. */
export const flagOperations = (em: EntityManager, operationIds: readonly string[]): Promise<unknown> =>
  query(
    em,
    `update operations
     set cancel_requested_at = coalesce(cancel_requested_at, date_trunc('milliseconds', clock_timestamp())), modified_at = ${laterThanBefore}
     where id = any ($1::text[]) and not done`,
    [operationIds],
  );

/** Ids of the operations of a resource that are not done, newest first. */
export async function unfinishedOperations(em: EntityManager, resourceId: string): Promise<string[]> {
  const rows = await query<{ id: string }>(
    em,
    'select id from operations where resource_id = $1 and not done order by created_at desc, id desc',
    [resourceId],
  );
  return rows.map(({ id }) => id);
}
