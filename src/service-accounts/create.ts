import {
  CreateServiceAccountMetadata,
  type CreateServiceAccountRequest,
} from '../../generated/yandex/cloud/iam/v1/service_account_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { holdFolder } from '../folders/hold-folder.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { ServiceAccount } from '../iam/service-account.entity.ts';
import { pack } from '../operations/pack.ts';
import { newId } from '../platform/ids.ts';
import { reserve } from '../quotas/reserve.ts';
import { assertNameFree } from '../resources/unique-name.ts';
import { accountKind, parseExpiry } from './account-kind.ts';
import type { AccountParts } from './account-parts.ts';
import { serviceAccountsQuota } from './account-quota.ts';
import { packServiceAccount } from './service-account.mapper.ts';

/** An account without keys and roles: it can do nothing yet. */
export const createServiceAccount =
  ({ operations }: AccountParts): Method<CreateServiceAccountRequest, OperationMessage> =>
  async ({ folderId, name, description, labels, expiresAt }, call) => {
    await authorize(call, 'iam.serviceAccounts.create', { kind: 'resource-manager.folder', id: folderId });
    const expiry = parseExpiry(expiresAt);
    return operations.begin(call, async (em) => {
      await holdFolder(em, folderId);
      await assertNameFree(em, accountKind, folderId, name);
      await reserve(em, { folderId }, [{ quota: serviceAccountsQuota, amount: 1 }]);
      const account = em.create(ServiceAccount, {
        id: newId('serviceAccount'),
        folderId,
        createdAt: new Date(),
        name,
        description,
        labels,
        status: 'ACTIVE',
        expiresAt: expiry,
      });
      return {
        folderId,
        resourceId: account.id,
        resourceKind: 'iam.serviceAccount',
        description: 'Create service account',
        metadata: pack(CreateServiceAccountMetadata, { serviceAccountId: account.id }),
        response: packServiceAccount(account),
      };
    });
  };
