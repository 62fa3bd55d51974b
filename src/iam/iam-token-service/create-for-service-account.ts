import type {
  CreateIamTokenForServiceAccountRequest,
  CreateIamTokenResponse,
} from '../../../generated/yandex/cloud/iam/v1/iam_token_service.ts';
import { failedPrecondition, notFound } from '../../platform/errors.ts';
import { inactivityAt } from '../active-account.ts';
import { authorize } from '../authorize.ts';
import type { Method } from '../call.ts';
import { ServiceAccount } from '../service-account.entity.ts';
import type { IamTokenParts } from './iam-token-methods.ts';

/**
 * A token of a service account for a caller that may act for it. An account may not act for itself without a role that says so: else
 * whoever came by one of its tokens could have new ones for ever.
 */
export const createIamTokenForServiceAccount =
  ({ authority }: IamTokenParts): Method<CreateIamTokenForServiceAccountRequest, CreateIamTokenResponse> =>
  async ({ serviceAccountId }, call) => {
    const account = await call.em.findOne(ServiceAccount, { id: serviceAccountId });
    if (account === null) throw notFound('Service account', serviceAccountId);
    const { id, folderId } = account;
    await authorize(call, 'iam.serviceAccounts.createToken', { kind: 'iam.serviceAccount', id, folderId });
    const inactivity = inactivityAt(account, new Date());
    if (inactivity !== undefined) throw failedPrecondition(`Service account ${id} ${inactivity}`);
    const { token: iamToken, expiresAt } = authority.issue({ id, type: 'serviceAccount' });
    return { iamToken, expiresAt };
  };
