import type { CreateIamTokenRequest, CreateIamTokenResponse } from '../../../generated/yandex/cloud/iam/v1/iam_token_service.ts';
import { DomainError, invalidArgument } from '../../platform/errors.ts';
import type { Method } from '../call.ts';
import type { IamTokenParts } from './iam-token-methods.ts';
import { verifyServiceAccountJwt } from './service-account-jwt.ts';

/**
 * Exchanges a service account's JSON Web Token for a token, or one of the operator's identity provider, which stands in the place of a
 * Yandex account's: so clients that know those sign in unchanged. Open to everybody: the proof is in the request.
 */
export const createIamToken =
  ({ authority, external, limits, now = Date.now }: IamTokenParts): Method<CreateIamTokenRequest, CreateIamTokenResponse> =>
  async ({ identity }, call) => {
    if (identity === undefined || identity.value === '') {
      throw invalidArgument('identity', 'exactly one of yandex_passport_oauth_token and jwt must be given');
    }
    if (identity.$case === 'yandexPassportOauthToken' && external !== undefined) {
      const { subject, expiresAtMs } = await external.check(identity.value);
      call.audit?.identify(subject);
      limits?.admitProven(subject.id);
      const { token: iamToken, expiresAt } = authority.issue(subject, Math.max(0, expiresAtMs - now()));
      return { iamToken, expiresAt };
    }
    if (identity.$case === 'yandexPassportOauthToken') {
      throw new DomainError(
        'UNAUTHENTICATED',
        'OAuth tokens of Yandex accounts are not accepted here. Sign in with a service account: an authorized key or an IAM token.',
      );
    }
    const subject = await verifyServiceAccountJwt(call.em, identity.value);
    call.audit?.identify(subject);
    limits?.admitProven(subject.id);
    const { token: iamToken, expiresAt } = authority.issue(subject);
    return { iamToken, expiresAt };
  };
