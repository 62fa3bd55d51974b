// An operation as clients see it: what a call started, and how it ended. Its job, while there is one, is a row of its own.
import { defineEntity, p, Uint8ArrayType } from '@mikro-orm/core';
import { instant, int8, text } from '../db/columns.ts';
import type { ResourceKind } from '../iam/resource.ts';

const bytes = () => p.type(Uint8ArrayType).$type<Uint8Array>();

const OperationSchema = defineEntity({
  name: 'Operation',
  tableName: 'operations',
  properties: {
    id: text().primary(),
    folderId: text(),
    /** What it is about; lists of a resource's operations go by it, after the resource has gone as well. */
    resourceId: text(),
    /** The kind of that resource: who may see it decides who may see the operation. */
    resourceKind: text().$type<ResourceKind>(),
    description: text(),
    createdAt: instant(),
    /** Id of the subject that started it. */
    createdBy: text(),
    /** Moves with progress too. */
    modifiedAt: instant(),
    /** URL of a packed message's type, and the message. */
    metadataType: text(),
    metadata: bytes(),
    /** Set once, with `error` or `response`; from then on the row never changes. */
    done: p.boolean(),
    /** A serialized google.rpc.Status. */
    error: bytes().nullable(),
    responseType: text().nullable(),
    response: bytes().nullable(),
    /** Whether clients may cancel it. */
    cancellable: p.boolean(),
    cancelRequestedAt: instant().nullable(),
    /** Progress; all zero for operations that move no data. */
    bytesDone: int8(),
    bytesTotal: int8(),
    bytesPerSecond: int8(),
    /** A lower-case word for people. */
    phase: text(),
  },
  // No index holds a column that progress changes: those updates stay within their page (heap-only tuples).
  indexes: [
    { name: 'operations_resource_index', properties: ['resourceId', 'createdAt', 'id'] },
    { name: 'operations_created_index', properties: ['createdAt'] },
  ],
});

export class Operation extends OperationSchema.class {}
OperationSchema.setClass(Operation);
export { OperationSchema };
