// The `idempotency-key` header: for a time (OBRAZ_KEEP_IDEMPOTENCY_KEYS_HOURS) a repeated call is answered with the first one's operation. The key's row is written first in
// the transaction that the call makes, so a concurrent repeat waits there for the first one's end, and a call that fails leaves no row.
import { createHash } from 'node:crypto';
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import { DomainError, TransientError } from '../platform/errors.ts';
import { Operation } from './operation.entity.ts';

/** How long a key answers where nothing else is configured. */
export const defaultKeyWindowMs = 24 * 60 * 60 * 1000;

export interface RepeatableCall {
  subjectId: string;
  method: string;
  key: string;
  /** SHA-256 of the request, hex. */
  requestHash: string;
  /** How long a key answers. */
  windowMs: number;
}

export const hashRequest = (request: Uint8Array): string => createHash('sha256').update(request).digest('hex');

/** The operation of an earlier call under the same key. @throws DomainError INVALID_ARGUMENT when that call asked for something else. */
export async function findRepeated(em: EntityManager, call: RepeatableCall): Promise<Operation | undefined> {
  const [row] = await query<{ requestHash: string; operationId: string }>(
    em,
    `select request_hash as "requestHash", operation_id as "operationId" from idempotency_keys
     where subject_id = $1 and method = $2 and key = $3 and created_at > now() - $4 * interval '1 millisecond'`,
    [call.subjectId, call.method, call.key, call.windowMs],
  );
  if (row === undefined) return undefined;
  if (row.requestHash !== call.requestHash) {
    throw new DomainError('INVALID_ARGUMENT', 'idempotency-key: was used for another request; use a new key for a new request');
  }
  // Null when history was cut shorter than the keys' window: then the key is as good as expired.
  return (await em.findOne(Operation, { id: row.operationId })) ?? undefined;
}

/**
 * Takes the key for `operationId`, in the transaction of `em`. Answers the operation of an earlier call instead when there is one; waits
 * for the end of one that is under way. @throws DomainError INVALID_ARGUMENT when that call asked for something else.
 */
export async function takeKey(em: EntityManager, call: RepeatableCall, operationId: string): Promise<Operation | undefined> {
  for (let round = 0; round < 3; round += 1) {
    const taken = await query(
      em,
      `insert into idempotency_keys (subject_id, method, key, request_hash, operation_id) values ($1, $2, $3, $4, $5)
       on conflict (subject_id, method, key) do update
         set request_hash = excluded.request_hash, operation_id = excluded.operation_id, created_at = excluded.created_at
         where idempotency_keys.created_at <= now() - $6 * interval '1 millisecond'
       returning operation_id`,
      [call.subjectId, call.method, call.key, call.requestHash, operationId, call.windowMs],
    );
    if (taken.length > 0) return undefined;
    // A statement of its own: it sees what the call that was waited for has committed.
    const earlier = await findRepeated(em, call);
    if (earlier !== undefined) return earlier;
    await query(
      em,
      `delete from idempotency_keys where subject_id = $1 and method = $2 and key = $3
       and not exists (select from operations where operations.id = idempotency_keys.operation_id)`,
      [call.subjectId, call.method, call.key],
    );
  }
  throw new TransientError('idempotency-key: the call that used it is being forgotten; try again');
}

/** Points the key at the operation that the call was answered with, when that was there before. */
export const redirectKey = (em: EntityManager, call: RepeatableCall, operationId: string): Promise<unknown> =>
  query(em, 'update idempotency_keys set operation_id = $4 where subject_id = $1 and method = $2 and key = $3', [
    call.subjectId,
    call.method,
    call.key,
    operationId,
  ]);
