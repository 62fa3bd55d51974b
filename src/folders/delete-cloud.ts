import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { DeleteCloudMetadata, type DeleteCloudRequest } from '../../generated/yandex/cloud/resourcemanager/v1/cloud_service.ts';
import { removeBindings } from '../iam/access-bindings.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { pack, packedEmpty } from '../operations/pack.ts';
import { QuotaLimit } from '../quotas/quota-limit.entity.ts';
import { assertCloudEmpty } from './contents.ts';
import { assertDeletedNow } from './delete-after.ts';
import { type FolderParts, noFolder } from './folder-parts.ts';
import { assertCloudCanChange } from './kinds.ts';
import { lockCloud } from './lock.ts';

/** Only a cloud without folders can be deleted; its limits go with it. */
export const deleteCloud =
  ({ operations }: FolderParts): Method<DeleteCloudRequest, OperationMessage> =>
  async ({ cloudId, deleteAfter }, call) => {
    const resource = { kind: 'resource-manager.cloud', id: cloudId } as const;
    await authorize(call, 'resource-manager.clouds.delete', resource);
    assertDeletedNow(deleteAfter);
    const operation = await operations.begin(call, async (em) => {
      const cloud = await lockCloud(em, cloudId);
      assertCloudCanChange(cloud);
      await assertCloudEmpty(em, cloudId);
      await removeBindings(em, resource);
      await em.nativeDelete(QuotaLimit, { cloudId });
      em.remove(cloud);
      return {
        folderId: noFolder,
        resourceId: cloudId,
        resourceKind: 'resource-manager.cloud',
        description: 'Delete cloud',
        removesResource: true,
        metadata: pack(DeleteCloudMetadata, { cloudId, deleteAfter, cancelledBy: '', cancelledAt: undefined }),
        response: packedEmpty,
      };
    });
    call.access.forget();
    return operation;
  };
