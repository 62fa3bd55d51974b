import { ServiceAccount } from '../iam/service-account.entity.ts';
import { invalidArgument } from '../platform/errors.ts';
import type { NamedKind } from '../resources/unique-name.ts';

export const accountKind: NamedKind<ServiceAccount> = {
  noun: 'Service account',
  entity: ServiceAccount,
  table: 'service_accounts',
};

/** `expires_at` of a request; null for never. @throws DomainError INVALID_ARGUMENT for a time that has passed. */
export function parseExpiry(expiresAt: Date | undefined, now = new Date()): Date | null {
  if (expiresAt === undefined) return null;
  if (expiresAt <= now) throw invalidArgument('expires_at', `must be in the future, not ${expiresAt.toISOString()}`);
  return expiresAt;
}
