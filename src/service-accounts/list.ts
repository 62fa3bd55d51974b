import type {
  ListServiceAccountsRequest,
  ListServiceAccountsResponse,
} from '../../generated/yandex/cloud/iam/v1/service_account_service.ts';
import { type ListDefinition, listPage } from '../db/listing/list-page.ts';
import type { Method } from '../iam/call.ts';
import { ServiceAccount } from '../iam/service-account.entity.ts';
import { type Listed, visibleIn } from '../resources/visible.ts';
import { toServiceAccountMessage } from './service-account.mapper.ts';

const accounts: ListDefinition<ServiceAccount> = {
  method: 'yandex.cloud.iam.v1.ServiceAccountService/List',
  entity: ServiceAccount,
  fields: { name: { type: 'text' } },
};

const listed: Listed<ServiceAccount> = {
  entity: ServiceAccount,
  kind: 'iam.serviceAccount',
  permissions: 'iam.serviceAccounts',
};

export const listServiceAccounts: Method<ListServiceAccountsRequest, ListServiceAccountsResponse> = async (request, call) => {
  const { folderId, pageSize, pageToken, filter } = request;
  const visible = await visibleIn(call, listed, 'list', folderId);
  const page = await listPage(call.em, accounts, { scope: { folderId }, visible, pageSize, pageToken, filter });
  return { serviceAccounts: page.items.map(toServiceAccountMessage), nextPageToken: page.nextPageToken };
};
