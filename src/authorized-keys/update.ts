import { UpdateKeyMetadata, type UpdateKeyRequest } from '../../generated/yandex/cloud/iam/v1/key_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import type { Method } from '../iam/call.ts';
import { pack } from '../operations/pack.ts';
import { parseUpdateMask } from '../platform/update-mask.ts';
import { packKey } from './key.mapper.ts';
import type { KeyParts } from './key-parts.ts';
import { lockKey, requireKey } from './require.ts';

export const updateKey =
  ({ operations }: KeyParts): Method<UpdateKeyRequest, OperationMessage> =>
  async ({ keyId, updateMask, description }, call) => {
    const { account } = await requireKey(call, keyId, 'iam.keys.update');
    // The one field there is: it is named, or all are meant.
    parseUpdateMask(updateMask, ['description']);
    return operations.begin(call, async (em) => {
      const key = await lockKey(em, keyId);
      key.description = description;
      return {
        folderId: account.folderId,
        resourceId: keyId,
        resourceKind: 'iam.serviceAccount',
        description: 'Update key',
        metadata: pack(UpdateKeyMetadata, { keyId }),
        response: packKey(key),
      };
    });
  };
