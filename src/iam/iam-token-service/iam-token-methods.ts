// yandex.cloud.iam.v1.IamTokenService. Create is open to everybody; the other two need a token.
import type { ExternalTokens } from '../external/external-tokens.ts';
import type { TokenAuthority } from '../tokens.ts';
import { createIamTokenForServiceAccount } from './create-for-service-account.ts';
import { createIamToken } from './create.ts';
import { revokeIamToken } from './revoke.ts';

export interface IamTokenParts {
  authority: TokenAuthority;
  /** Where there is an identity provider. */
  external?: ExternalTokens | undefined;
  /** Asked by methods that are open, once they know who calls. @throws DomainError RESOURCE_EXHAUSTED. */
  limits?: { admitProven(subjectId: string): void } | undefined;
  /** Milliseconds since 1970; for tests. */
  now?: () => number;
}

export const iamTokenMethods = (parts: IamTokenParts) => ({
  create: createIamToken(parts),
  createForServiceAccount: createIamTokenForServiceAccount(parts),
  revoke: revokeIamToken(parts),
});
