// ListOperations of every resource: the operations on it, newest first.
import { listPage } from '../db/listing/list-page.ts';
import type { Call } from '../iam/call.ts';
import { Operation } from './operation.entity.ts';
import type { OperationMessage } from './operation.mapper.ts';
import { shownOperation } from './shown-operation.ts';

export interface OperationsPage {
  operations: OperationMessage[];
  /** Empty on the last page; at most 100 characters. */
  nextPageToken: string;
}

/** `method` binds the page tokens: `yandex.cloud.compute.v1.ImageService/ListOperations`. @throws DomainError INVALID_ARGUMENT. */
export async function listOperations(
  call: Call,
  method: string,
  resourceId: string,
  page: { pageSize: bigint | number; pageToken: string },
): Promise<OperationsPage> {
  const { items, nextPageToken } = await listPage(
    call.em,
    { method, entity: Operation, fields: { createdAt: { type: 'instant' } } },
    { scope: { resourceId }, pageSize: page.pageSize, pageToken: page.pageToken, orderBy: 'createdAt desc' },
  );
  return { operations: await Promise.all(items.map((operation) => shownOperation(call, operation))), nextPageToken };
}
