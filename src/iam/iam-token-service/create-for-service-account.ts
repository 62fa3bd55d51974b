import type {
  CreateIamTokenForServiceAccountRequest,
  CreateIamTokenResponse,
} from '../../../generated/yandex/cloud/iam/v1/iam_token_service.ts';
import { failedPrecondition, notFound } from '../../platform/errors.ts';
import { authenticated, authorize } from '../authorize.ts';
import type { Method } from '../call.ts';
import { ServiceAccount } from '../service-account.entity.ts';
import type { IamTokenParts } from './iam-token-methods.ts';

/** A token of a service account for a caller that may act for it; every account may act for itself. */
export const createIamTokenForServiceAccount =
  ({ authority }: IamTokenParts): Method<CreateIamTokenForServiceAccountRequest, CreateIamTokenResponse> =>
  async ({ serviceAccountId }, call) => {
    const caller = authenticated(call);
    const account = await call.em.findOne(ServiceAccount, { id: serviceAccountId });
    if (account === null) throw notFound('Service account', serviceAccountId);
    if (caller.id !== account.id) {
      const { id, folderId } = account;
      await authorize(call, 'iam.serviceAccounts.createToken', { kind: 'iam.serviceAccount', id, folderId });
    }
    if (account.status !== 'ACTIVE') throw failedPrecondition(`Service account ${account.id} is ${account.status}`);
    const { token: iamToken, expiresAt } = authority.issue({ id: account.id, type: 'serviceAccount' });
    return { iamToken, expiresAt };
  };
