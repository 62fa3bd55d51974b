import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { UpdateCloudMetadata, type UpdateCloudRequest } from '../../generated/yandex/cloud/resourcemanager/v1/cloud_service.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { pack } from '../operations/pack.ts';
import { parseUpdateMask } from '../platform/update-mask.ts';
import { assertNamed, describe, describedFields } from '../resources/describe.ts';
import { packCloud } from './cloud.mapper.ts';
import { type FolderParts, noFolder } from './folder-parts.ts';
import { assertCloudCanChange, cloudKind } from './kinds.ts';
import { lockCloud } from './lock.ts';

export const updateCloud =
  ({ operations }: FolderParts): Method<UpdateCloudRequest, OperationMessage> =>
  async (request, call) => {
    const { cloudId } = request;
    await authorize(call, 'resource-manager.clouds.update', { kind: 'resource-manager.cloud', id: cloudId });
    const fields = parseUpdateMask(request.updateMask, describedFields);
    assertNamed(fields, request);
    return operations.begin(call, async (em) => {
      const cloud = await lockCloud(em, cloudId);
      assertCloudCanChange(cloud);
      await describe(em, cloudKind, cloud, fields, request);
      return {
        folderId: noFolder,
        resourceId: cloudId,
        resourceKind: 'resource-manager.cloud',
        description: 'Update cloud',
        metadata: pack(UpdateCloudMetadata, { cloudId }),
        response: packCloud(cloud),
      };
    });
  };
