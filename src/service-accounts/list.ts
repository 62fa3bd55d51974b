import type {
  ListServiceAccountsRequest,
  ListServiceAccountsResponse,
} from '../../generated/yandex/cloud/iam/v1/service_account_service.ts';
import { type ListDefinition, listPage } from '../db/listing/list-page.ts';
import { requireFolder } from '../folders/require-folder.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { ServiceAccount } from '../iam/service-account.entity.ts';
import { toServiceAccountMessage } from './service-account.mapper.ts';

const accounts: ListDefinition<ServiceAccount> = {
  method: 'yandex.cloud.iam.v1.ServiceAccountService/List',
  entity: ServiceAccount,
  fields: { name: { type: 'text' } },
};

export const listServiceAccounts: Method<ListServiceAccountsRequest, ListServiceAccountsResponse> = async (request, call) => {
  const { folderId, pageSize, pageToken, filter } = request;
  await authorize(call, 'iam.serviceAccounts.list', { kind: 'resource-manager.folder', id: folderId });
  await requireFolder(call.em, folderId);
  const page = await listPage(call.em, accounts, { scope: { folderId }, pageSize, pageToken, filter });
  return { serviceAccounts: page.items.map(toServiceAccountMessage), nextPageToken: page.nextPageToken };
};
