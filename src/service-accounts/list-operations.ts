import type {
  ListServiceAccountOperationsRequest,
  ListServiceAccountOperationsResponse,
} from '../../generated/yandex/cloud/iam/v1/service_account_service.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { listOperations } from '../operations/list-operations.ts';
import { requireAccount, resourceOf } from './require.ts';

export const listServiceAccountOperations: Method<
  ListServiceAccountOperationsRequest,
  ListServiceAccountOperationsResponse
> = async ({ serviceAccountId, ...page }, call) => {
  const account = await requireAccount(call.em, serviceAccountId);
  await authorize(call, 'iam.serviceAccounts.listOperations', resourceOf(account));
  return listOperations(call, 'yandex.cloud.iam.v1.ServiceAccountService/ListOperations', account.id, page);
};
