import type { ListKeyOperationsRequest, ListKeyOperationsResponse } from '../../generated/yandex/cloud/iam/v1/key_service.ts';
import type { Method } from '../iam/call.ts';
import { listOperations } from '../operations/list-operations.ts';
import { requireKey } from './require.ts';

export const listKeyOperations: Method<ListKeyOperationsRequest, ListKeyOperationsResponse> = async (
  { keyId, ...page },
  call,
) => {
  const { key } = await requireKey(call, keyId, 'iam.keys.listOperations');
  return listOperations(call, 'yandex.cloud.iam.v1.KeyService/ListOperations', key.id, page);
};
