import type { Folder as FolderMessage } from '../../generated/yandex/cloud/resourcemanager/v1/folder.ts';
import type { GetFolderRequest } from '../../generated/yandex/cloud/resourcemanager/v1/folder_service.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { toFolderMessage } from './folder.mapper.ts';
import { requireFolder } from './require-folder.ts';

export const getFolder: Method<GetFolderRequest, FolderMessage> = async ({ folderId }, call) => {
  await authorize(call, 'resource-manager.folders.get', { kind: 'resource-manager.folder', id: folderId });
  return toFolderMessage(await requireFolder(call.em, folderId));
};
