// ListOperations of every resource: the operations on it, newest first.
import type { EntityManager } from '@mikro-orm/postgresql';
import { listPage } from '../db/listing/list-page.ts';
import { Operation } from './operation.entity.ts';
import { type OperationMessage, toOperationMessage } from './operation.mapper.ts';

export interface OperationsPage {
  operations: OperationMessage[];
  /** Empty on the last page; at most 100 characters. */
  nextPageToken: string;
}

/** `method` binds the page tokens: `yandex.cloud.compute.v1.ImageService/ListOperations`. @throws DomainError INVALID_ARGUMENT. */
export async function listOperations(
  em: EntityManager,
  method: string,
  resourceId: string,
  page: { pageSize: bigint | number; pageToken: string },
): Promise<OperationsPage> {
  const { items, nextPageToken } = await listPage(
    em,
    { method, entity: Operation, fields: { createdAt: { type: 'instant' } } },
    { scope: { resourceId }, pageSize: page.pageSize, pageToken: page.pageToken, orderBy: 'createdAt desc' },
  );
  return { operations: items.map(toOperationMessage), nextPageToken };
}
