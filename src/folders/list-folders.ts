import type { ListFoldersRequest, ListFoldersResponse } from '../../generated/yandex/cloud/resourcemanager/v1/folder_service.ts';
import { type ListDefinition, listPage } from '../db/listing/list-page.ts';
import type { FilterQuery } from '@mikro-orm/core';
import { authenticated, authorize } from '../iam/authorize.ts';
import type { Call, Method } from '../iam/call.ts';
import { sharedWith } from '../iam/shared-with.ts';
import { DomainError } from '../platform/errors.ts';
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
  const visible = await visibleInCloud(call, cloudId);
  const page = await listPage(call.em, folders, { scope: { cloudId }, visible, pageSize, pageToken, filter });
  return { folders: page.items.map(toFolderMessage), nextPageToken: page.nextPageToken };
};

/** @throws DomainError PERMISSION_DENIED, NOT_FOUND as authorize does, when the caller sees none. */
async function visibleInCloud(call: Call, cloudId: string): Promise<FilterQuery<Folder> | undefined> {
  try {
    await authorize(call, 'resource-manager.folders.list', { kind: 'resource-manager.cloud', id: cloudId });
  } catch (error) {
    if (!(error instanceof DomainError) || error.code !== 'PERMISSION_DENIED') throw error;
    const shared = sharedWith<Folder>(authenticated(call), 'resource-manager.folders.get', 'resource-manager.folder');
    if ((await call.em.count(Folder, { $and: [{ cloudId }, shared] })) === 0) throw error;
    return shared;
  }
  await requireCloud(call.em, cloudId);
  return undefined;
}
