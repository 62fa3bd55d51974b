import type {
  ListFolderOperationsRequest,
  ListFolderOperationsResponse,
} from '../../generated/yandex/cloud/resourcemanager/v1/folder_service.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { listOperations } from '../operations/list-operations.ts';
import { requireFolder } from './require-folder.ts';

/** Operations on the folder itself, not on what lies in it. */
export const listFolderOperations: Method<ListFolderOperationsRequest, ListFolderOperationsResponse> = async (
  { folderId, ...page },
  call,
) => {
  await authorize(call, 'resource-manager.folders.listOperations', { kind: 'resource-manager.folder', id: folderId });
  await requireFolder(call.em, folderId);
  return listOperations(call, 'yandex.cloud.resourcemanager.v1.FolderService/ListOperations', folderId, page);
};
