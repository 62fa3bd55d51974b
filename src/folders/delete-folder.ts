import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import {
  DeleteFolderMetadata,
  type DeleteFolderRequest,
} from '../../generated/yandex/cloud/resourcemanager/v1/folder_service.ts';
import { removeBindings } from '../iam/access-bindings.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { pack, packedEmpty } from '../operations/pack.ts';
import { assertFolderEmpty } from './contents.ts';
import { assertDeletedNow } from './delete-after.ts';
import type { FolderParts } from './folder-parts.ts';
import { assertFolderCanChange } from './kinds.ts';
import { lockFolder } from './lock.ts';

/** Only an empty folder can be deleted: nobody loses an image by the name of its folder. */
export const deleteFolder =
  ({ operations }: FolderParts): Method<DeleteFolderRequest, OperationMessage> =>
  async ({ folderId, deleteAfter }, call) => {
    const resource = { kind: 'resource-manager.folder', id: folderId } as const;
    await authorize(call, 'resource-manager.folders.delete', resource);
    assertDeletedNow(deleteAfter);
    const operation = await operations.begin(call, async (em) => {
      const folder = await lockFolder(em, folderId);
      assertFolderCanChange(folder);
      await assertFolderEmpty(em, folderId);
      await removeBindings(em, resource);
      em.remove(folder);
      return {
        folderId,
        resourceId: folderId,
        resourceKind: 'resource-manager.folder',
        description: 'Delete folder',
        removesResource: true,
        metadata: pack(DeleteFolderMetadata, { folderId, deleteAfter, cancelledBy: '', cancelledAt: undefined }),
        response: packedEmpty,
      };
    });
    call.access.forget();
    return operation;
  };
