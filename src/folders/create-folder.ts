import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import {
  CreateFolderMetadata,
  type CreateFolderRequest,
} from '../../generated/yandex/cloud/resourcemanager/v1/folder_service.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { Folder } from '../iam/hierarchy/folder.entity.ts';
import { pack } from '../operations/pack.ts';
import { newId } from '../platform/ids.ts';
import { reserve } from '../quotas/reserve.ts';
import { assertNameFree } from '../resources/unique-name.ts';
import { packFolder } from './folder.mapper.ts';
import type { FolderParts } from './folder-parts.ts';
import { foldersQuota } from './folder-quota.ts';
import { holdCloud } from './hold-cloud.ts';
import { folderKind } from './kinds.ts';

/** An empty folder. Who made it needs no binding on it: the role on the cloud is inherited. */
export const createFolder =
  ({ operations }: FolderParts): Method<CreateFolderRequest, OperationMessage> =>
  async ({ cloudId, name, description, labels }, call) => {
    await authorize(call, 'resource-manager.folders.create', { kind: 'resource-manager.cloud', id: cloudId });
    return operations.begin(call, async (em) => {
      await holdCloud(em, cloudId);
      await assertNameFree(em, folderKind, cloudId, name);
      await reserve(em, { cloudId }, [{ quota: foldersQuota, amount: 1 }]);
      const folder = em.create(Folder, {
        id: newId('folder'),
        cloudId,
        createdAt: new Date(),
        name,
        description,
        labels,
        status: 'ACTIVE',
      });
      return {
        folderId: folder.id,
        resourceId: folder.id,
        resourceKind: 'resource-manager.folder',
        description: 'Create folder',
        metadata: pack(CreateFolderMetadata, { folderId: folder.id }),
        response: packFolder(folder),
      };
    });
  };
