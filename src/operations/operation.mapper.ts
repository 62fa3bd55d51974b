import type { Any } from '../../generated/google/protobuf/any.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import type { Progress as ProgressMessage } from '../../generated/obraz/v1/progress.ts';
import type { Operation } from './operation.entity.ts';
import { decodeStatus } from './status.mapper.ts';

export type { OperationMessage, ProgressMessage };

/** Metadata is in every copy, typed: clients refuse an operation without it. `response`: what is shown in place of its own. */
export function toOperationMessage(operation: Operation, response = operation.response): OperationMessage {
  return {
    id: operation.id,
    description: operation.description,
    createdAt: operation.createdAt,
    createdBy: operation.createdBy,
    modifiedAt: operation.modifiedAt,
    done: operation.done,
    metadata: toAny(operation.metadataType, operation.metadata),
    result: toResult(operation, response),
  };
}

function toResult({ error, responseType }: Operation, response: Operation['response']): OperationMessage['result'] {
  if (error != null) return { $case: 'error', value: decodeStatus(error) };
  if (response != null && responseType != null) return { $case: 'response', value: toAny(responseType, response) };
  return undefined;
}

const toAny = (typeUrl: string, { buffer, byteOffset, byteLength }: Uint8Array): Any => ({
  typeUrl,
  value: Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength),
});

export const toProgressMessage = (operation: Operation): ProgressMessage => ({
  operationId: operation.id,
  bytesDone: BigInt(operation.bytesDone),
  bytesTotal: BigInt(operation.bytesTotal),
  bytesPerSecond: BigInt(operation.bytesPerSecond),
  updatedAt: operation.modifiedAt,
  done: operation.done,
  phase: operation.phase,
});
