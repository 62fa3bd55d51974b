import type { RevokeIamTokenRequest, RevokeIamTokenResponse } from '../../../generated/yandex/cloud/iam/v1/iam_token_service.ts';
import { DomainError, invalidArgument } from '../../platform/errors.ts';
import { authenticated, authorize } from '../authorize.ts';
import type { Method } from '../call.ts';
import { ServiceAccount } from '../service-account.entity.ts';
import type { TokenClaims } from '../token-format.ts';
import type { IamTokenParts } from './iam-token-methods.ts';

/** Ends a token of the caller's own, or of an account whose tokens the caller may end. Ending it twice is no error. */
export const revokeIamToken =
  ({ authority }: IamTokenParts): Method<RevokeIamTokenRequest, RevokeIamTokenResponse> =>
  async ({ iamToken }, call) => {
    const caller = authenticated(call);
    const claims = readClaims(() => authority.read(iamToken));
    const { id, type } = claims.subject;
    if (id !== caller.id || type !== caller.type) {
      const account = await call.em.findOne(ServiceAccount, { id });
      const folder = account === null ? {} : { folderId: account.folderId };
      await authorize(call, 'iam.serviceAccounts.revokeToken', { kind: 'iam.serviceAccount', id, ...folder });
    }
    const details = { subjectId: id, iamTokenId: claims.id };
    await authority.revoke(claims, async (em) => call.audit?.record(em, { status: 'DONE', details }));
    return { subjectId: id };
  };

/** The caller is known; it is the argument that is wrong. */
function readClaims(read: () => TokenClaims): TokenClaims {
  try {
    return read();
  } catch (error) {
    if (error instanceof DomainError) throw invalidArgument('iam_token', 'is invalid or has expired');
    throw error;
  }
}
