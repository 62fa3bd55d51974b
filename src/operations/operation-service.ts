// OperationService: how clients follow and stop what they started. Get is what every waiter of every SDK calls, about once a second.
import type { CancelOperationRequest, GetOperationRequest } from '../../generated/yandex/cloud/operation/operation_service.ts';
import type { Method } from '../iam/call.ts';
import { notFound } from '../platform/errors.ts';
import { authorizeOperation } from './authorize-operation.ts';
import type { Operation } from './operation.entity.ts';
import type { OperationMessage } from './operation.mapper.ts';
import type { Operations } from './operations.ts';
import { shownOperation } from './shown-operation.ts';

export interface OperationServiceParts {
  operations: Operations;
  /** Reads an operation by id; reads of the same moment share one query. */
  findOperation: (id: string) => Promise<Operation | undefined>;
}

/** Seconds that SDKs wait between polls; without the header most wait as long. */
const pollIntervalSeconds = 1;

export const operationMethods = (parts: OperationServiceParts) => ({
  get: getOperation(parts),
  cancel: cancelOperation(parts),
});

const getOperation =
  ({ findOperation }: OperationServiceParts): Method<GetOperationRequest, OperationMessage> =>
  async ({ operationId }, call) => {
    const operation = await requireOperation(findOperation, operationId);
    await authorizeOperation(call, 'get', operation);
    if (!operation.done) call.setHeader('x-operation-poll-interval', String(pollIntervalSeconds));
    return shownOperation(call, operation);
  };

const cancelOperation =
  ({ operations, findOperation }: OperationServiceParts): Method<CancelOperationRequest, OperationMessage> =>
  async ({ operationId }, call) => {
    const operation = await requireOperation(findOperation, operationId);
    await authorizeOperation(call, 'cancel', operation);
    return operations.cancel(call, operation);
  };

/** @throws DomainError NOT_FOUND. */
export async function requireOperation(findOperation: OperationServiceParts['findOperation'], id: string): Promise<Operation> {
  const operation = await findOperation(id);
  if (operation === undefined) throw notFound('Operation', id);
  return operation;
}
