// One call's `idempotency-key`, written in the transaction that the call made: it exists exactly when the call succeeded.
import { defineEntity, p } from '@mikro-orm/core';
import { text } from '../db/columns.ts';

const IdempotencyKeySchema = defineEntity({
  name: 'IdempotencyKey',
  tableName: 'idempotency_keys',
  properties: {
    subjectId: text().primary(),
    /** Full name of the method. */
    method: text().primary(),
    key: text().primary(),
    /** SHA-256 of the request, hex: another request under the key is refused. */
    requestHash: text(),
    operationId: text(),
    /** By the database's clock. */
    createdAt: p.datetime(3).defaultRaw('now()'),
  },
  indexes: [{ name: 'idempotency_keys_created_index', properties: ['createdAt'] }],
});

export class IdempotencyKey extends IdempotencyKeySchema.class {}
IdempotencyKeySchema.setClass(IdempotencyKey);
export { IdempotencyKeySchema };
