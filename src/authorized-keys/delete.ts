import { DeleteKeyMetadata, type DeleteKeyRequest } from '../../generated/yandex/cloud/iam/v1/key_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import type { Method } from '../iam/call.ts';
import { pack, packedEmpty } from '../operations/pack.ts';
import type { KeyParts } from './key-parts.ts';
import { lockKey, requireKey } from './require.ts';

/**
 * From the commit on nothing that it signed is accepted, by any process. Tokens got with it live on until they expire or are revoked.
 */
export const deleteKey =
  ({ operations }: KeyParts): Method<DeleteKeyRequest, OperationMessage> =>
  async ({ keyId }, call) => {
    const { account } = await requireKey(call, keyId, 'iam.keys.delete');
    return operations.begin(call, async (em) => {
      em.remove(await lockKey(em, keyId));
      return {
        folderId: account.folderId,
        resourceId: keyId,
        resourceKind: 'iam.serviceAccount',
        description: 'Delete key',
        removesResource: true,
        metadata: pack(DeleteKeyMetadata, { keyId }),
        response: packedEmpty,
      };
    });
  };
