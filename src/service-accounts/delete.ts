import {
  DeleteServiceAccountMetadata,
  type DeleteServiceAccountRequest,
} from '../../generated/yandex/cloud/iam/v1/service_account_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { removeBindingsOfAndOn } from '../iam/access-bindings.ts';
import { authorize } from '../iam/authorize.ts';
import { AuthorizedKey } from '../iam/authorized-key.entity.ts';
import type { Method } from '../iam/call.ts';
import { pack, packedEmpty } from '../operations/pack.ts';
import type { AccountParts } from './account-parts.ts';
import { assertNotOperator, lockAccount, requireAccount, resourceOf } from './require.ts';

/**
 * With the account go its keys, the bindings on it and the roles that it was given. What it made stays. Its tokens end at once here, and
 * within seconds on all other processes (iam/tokens.ts).
 */
export const deleteServiceAccount =
  ({ operations, authority }: AccountParts): Method<DeleteServiceAccountRequest, OperationMessage> =>
  async ({ serviceAccountId: id }, call) => {
    const resource = resourceOf(await requireAccount(call.em, id));
    await authorize(call, 'iam.serviceAccounts.delete', resource);
    const operation = await operations.begin(call, async (em) => {
      const account = await lockAccount(em, id);
      await assertNotOperator(em, account, 'be deleted');
      await em.nativeDelete(AuthorizedKey, { serviceAccountId: id });
      await removeBindingsOfAndOn(em, resource, { id, type: 'serviceAccount' });
      em.remove(account);
      return {
        folderId: account.folderId,
        resourceId: id,
        resourceKind: 'iam.serviceAccount',
        description: 'Delete service account',
        removesResource: true,
        metadata: pack(DeleteServiceAccountMetadata, { serviceAccountId: id }),
        response: packedEmpty,
      };
    });
    call.access.forget();
    authority.forgetAccount(id);
    return operation;
  };
