import type { ListFoldersRequest, ListFoldersResponse } from '../../generated/yandex/cloud/resourcemanager/v1/folder_service.ts';
import { type ListDefinition, listPage } from '../db/listing/list-page.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { Folder } from '../iam/hierarchy/folder.entity.ts';
import { toFolderMessage } from './folder.mapper.ts';
import { requireCloud } from '../iam/hierarchy/require-cloud.ts';

const folders: ListDefinition<Folder> = {
  method: 'yandex.cloud.resourcemanager.v1.FolderService/List',
  entity: Folder,
  fields: { name: { type: 'text' } },
};

export const listFolders: Method<ListFoldersRequest, ListFoldersResponse> = async (request, call) => {
  const { cloudId, pageSize, pageToken, filter } = request;
  await authorize(call, 'resource-manager.folders.list', { kind: 'resource-manager.cloud', id: cloudId });
  await requireCloud(call.em, cloudId);
  const page = await listPage(call.em, folders, { scope: { cloudId }, pageSize, pageToken, filter });
  return { folders: page.items.map(toFolderMessage), nextPageToken: page.nextPageToken };
};
