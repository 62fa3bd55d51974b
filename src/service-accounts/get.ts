import type { ServiceAccount as ServiceAccountMessage } from '../../generated/yandex/cloud/iam/v1/service_account.ts';
import type { GetServiceAccountRequest } from '../../generated/yandex/cloud/iam/v1/service_account_service.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { requireAccount, resourceOf } from './require.ts';
import { toServiceAccountMessage } from './service-account.mapper.ts';

export const getServiceAccount: Method<GetServiceAccountRequest, ServiceAccountMessage> = async ({ serviceAccountId }, call) => {
  const account = await requireAccount(call.em, serviceAccountId);
  await authorize(call, 'iam.serviceAccounts.get', resourceOf(account));
  return toServiceAccountMessage(account);
};
