import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import {
  UpdateFolderMetadata,
  type UpdateFolderRequest,
} from '../../generated/yandex/cloud/resourcemanager/v1/folder_service.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { pack } from '../operations/pack.ts';
import { parseUpdateMask } from '../platform/update-mask.ts';
import { assertNamed, describe, describedFields } from '../resources/describe.ts';
import { packFolder } from './folder.mapper.ts';
import type { FolderParts } from './folder-parts.ts';
import { assertFolderCanChange, folderKind } from './kinds.ts';
import { lockFolder } from './lock.ts';

export const updateFolder =
  ({ operations }: FolderParts): Method<UpdateFolderRequest, OperationMessage> =>
  async (request, call) => {
    const { folderId } = request;
    await authorize(call, 'resource-manager.folders.update', { kind: 'resource-manager.folder', id: folderId });
    const fields = parseUpdateMask(request.updateMask, describedFields);
    assertNamed(fields, request);
    return operations.begin(call, async (em) => {
      const folder = await lockFolder(em, folderId);
      assertFolderCanChange(folder);
      await describe(em, folderKind, folder, fields, request);
      return {
        folderId,
        resourceId: folderId,
        resourceKind: 'resource-manager.folder',
        description: 'Update folder',
        metadata: pack(UpdateFolderMetadata, { folderId }),
        response: packFolder(folder),
      };
    });
  };
