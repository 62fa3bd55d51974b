import type { ListFoldersRequest, ListFoldersResponse } from '../../generated/yandex/cloud/resourcemanager/v1/folder_service.ts';
import { type ListDefinition, listPage } from '../db/listing/list-page.ts';
import type { Method } from '../iam/call.ts';
import { visibleBelow } from '../iam/visible-below.ts';
import { Folder } from '../iam/hierarchy/folder.entity.ts';
import { toFolderMessage } from './folder.mapper.ts';
import { requireCloud } from '../iam/hierarchy/require-cloud.ts';

const folders: ListDefinition<Folder> = {
  method: 'yandex.cloud.resourcemanager.v1.FolderService/List',
  entity: Folder,
  fields: { name: { type: 'text' } },
};

/** With a role on the cloud all of its folders; else those on which the caller has a role. */
export const listFolders: Method<ListFoldersRequest, ListFoldersResponse> = async (request, call) => {
  const { cloudId, pageSize, pageToken, filter } = request;
  const visible = await visibleBelow(call, {
    parent: { kind: 'resource-manager.cloud', id: cloudId },
    permission: 'resource-manager.folders.list',
    ofOne: 'resource-manager.folders.get',
    entity: Folder,
    kind: 'resource-manager.folder',
    scope: { cloudId },
  });
  if (visible === undefined) await requireCloud(call.em, cloudId);
  const page = await listPage(call.em, folders, { scope: { cloudId }, visible, pageSize, pageToken, filter });
  return { folders: page.items.map(toFolderMessage), nextPageToken: page.nextPageToken };
};
