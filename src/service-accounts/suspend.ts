// Suspend and Reactivate: an account that is suspended keeps its keys and roles, and can use none of them. Its tokens end at once on
// this process and within seconds on all others, for good only when they expire meanwhile: one that has not counts again after the suspension.
import {
  ReactivateServiceAccountMetadata,
  type ReactivateServiceAccountRequest,
  ReactivateServiceAccountResponse,
  SuspendServiceAccountMetadata,
  type SuspendServiceAccountRequest,
  SuspendServiceAccountResponse,
} from '../../generated/yandex/cloud/iam/v1/service_account_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { authorize } from '../iam/authorize.ts';
import type { Call, Method } from '../iam/call.ts';
import type { ServiceAccount } from '../iam/service-account.entity.ts';
import { pack, type PackedMessage } from '../operations/pack.ts';
import { parseExpiry } from './account-kind.ts';
import type { AccountParts } from './account-parts.ts';
import { assertNotOperator, lockAccount, requireAccount, resourceOf } from './require.ts';

/** Again for one that is suspended: the new end counts. */
export const suspendServiceAccount =
  (parts: AccountParts): Method<SuspendServiceAccountRequest, OperationMessage> =>
  ({ serviceAccountId, expiresAt }, call) =>
    change(parts, call, serviceAccountId, {
      permission: 'iam.serviceAccounts.suspend',
      description: 'Suspend service account',
      metadata: pack(SuspendServiceAccountMetadata, { serviceAccountId }),
      response: pack(SuspendServiceAccountResponse, {}),
      parse: () => ({ status: 'SUSPENDED', suspendedUntil: parseExpiry(expiresAt) }),
    });

/** Changes nothing for one that is not suspended. */
export const reactivateServiceAccount =
  (parts: AccountParts): Method<ReactivateServiceAccountRequest, OperationMessage> =>
  ({ serviceAccountId }, call) =>
    change(parts, call, serviceAccountId, {
      permission: 'iam.serviceAccounts.reactivate',
      description: 'Reactivate service account',
      metadata: pack(ReactivateServiceAccountMetadata, { serviceAccountId }),
      response: pack(ReactivateServiceAccountResponse, {}),
      parse: () => ({ status: 'ACTIVE', suspendedUntil: null }),
    });

interface Change {
  permission: 'iam.serviceAccounts.suspend' | 'iam.serviceAccounts.reactivate';
  description: string;
  metadata: PackedMessage;
  response: PackedMessage;
  parse: () => Pick<ServiceAccount, 'status' | 'suspendedUntil'>;
}

async function change(
  { operations, authority }: AccountParts,
  call: Call,
  id: string,
  { permission, parse, ...about }: Change,
): Promise<OperationMessage> {
  await authorize(call, permission, resourceOf(await requireAccount(call.em, id)));
  const wanted = parse();
  const operation = await operations.begin(call, async (em) => {
    const account = await lockAccount(em, id);
    if (wanted.status === 'SUSPENDED') await assertNotOperator(em, account, 'be suspended');
    Object.assign(account, wanted);
    return { ...about, folderId: account.folderId, resourceId: id, resourceKind: 'iam.serviceAccount' };
  });
  authority.forgetAccount(id);
  return operation;
}
