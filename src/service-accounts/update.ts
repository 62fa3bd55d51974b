import {
  UpdateServiceAccountMetadata,
  type UpdateServiceAccountRequest,
} from '../../generated/yandex/cloud/iam/v1/service_account_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { authorize, authorizeIn } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import type { ServiceAccount } from '../iam/service-account.entity.ts';
import { pack } from '../operations/pack.ts';
import { parseUpdateMask } from '../platform/update-mask.ts';
import { assertNamed, describe, describedFields } from '../resources/describe.ts';
import { accountKind, parseExpiry } from './account-kind.ts';
import type { AccountParts } from './account-parts.ts';
import { assertNotOperator, lockAccount, requireAccount, resourceOf } from './require.ts';
import { packServiceAccount } from './service-account.mapper.ts';

const updatable = [...describedFields, 'expires_at'] as const;

export const updateServiceAccount =
  ({ operations, authority }: AccountParts): Method<UpdateServiceAccountRequest, OperationMessage> =>
  async (request, call) => {
    const { serviceAccountId } = request;
    await authorize(call, 'iam.serviceAccounts.update', resourceOf(await requireAccount(call.em, serviceAccountId)));
    const fields = parseUpdateMask(request.updateMask, updatable);
    assertNamed(fields, request);
    const expiresAt = fields.has('expires_at') ? parseExpiry(request.expiresAt) : null;
    const operation = await operations.begin(call, async (em) => {
      const account = await lockAccount(em, serviceAccountId);
      if (expiresAt !== null) await assertNotOperator(em, account, 'expire');
      if (fields.has('expires_at')) {
        if (isProlonged(account, expiresAt)) await authorizeIn(em, call, 'iam.serviceAccounts.reactivate', resourceOf(account));
        account.expiresAt = expiresAt;
      }
      await describe(em, accountKind, account, fields, request);
      return {
        folderId: account.folderId,
        resourceId: serviceAccountId,
        resourceKind: 'iam.serviceAccount',
        description: 'Update service account',
        metadata: pack(UpdateServiceAccountMetadata, { serviceAccountId }),
        response: packServiceAccount(account),
      };
    });
    if (fields.has('expires_at')) authority.forgetAccount(serviceAccountId);
    return operation;
  };

/** Whether it would work for longer than it does: as good as the end of a suspension. */
const isProlonged = ({ expiresAt: before = null }: ServiceAccount, after: Date | null): boolean =>
  before !== null && (after === null || after > before);
