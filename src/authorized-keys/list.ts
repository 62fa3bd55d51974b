import type { ListKeysRequest, ListKeysResponse } from '../../generated/yandex/cloud/iam/v1/key_service.ts';
import { type ListDefinition, listPage } from '../db/listing/list-page.ts';
import { AuthorizedKey } from '../iam/authorized-key.entity.ts';
import type { Method } from '../iam/call.ts';
import { toKeyMessage } from './key.mapper.ts';
import { requireOwner } from './require.ts';

const keys: ListDefinition<AuthorizedKey> = {
  method: 'yandex.cloud.iam.v1.KeyService/List',
  entity: AuthorizedKey,
  fields: {},
};

export const listKeys: Method<ListKeysRequest, ListKeysResponse> = async ({ serviceAccountId, ...page }, call) => {
  const { id } = await requireOwner(call, serviceAccountId, 'iam.keys.list');
  const { pageSize, pageToken } = page;
  const { items, nextPageToken } = await listPage(call.em, keys, { scope: { serviceAccountId: id }, pageSize, pageToken });
  return { keys: items.map(toKeyMessage), nextPageToken };
};
