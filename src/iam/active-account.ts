// Whether a service account may act: sign in, be given tokens, and use those that it has. It must not be suspended, and its time must not
// be over. Both ends come by the clock, without anybody changing the row.
import type { FilterQuery } from '@mikro-orm/core';
import type { ServiceAccount, ServiceAccountStatus } from './service-account.entity.ts';

/** As a condition of a query. */
export const activeAt = (now: Date): FilterQuery<ServiceAccount> => ({
  $and: [
    { $or: [{ status: 'ACTIVE' }, { status: 'SUSPENDED', suspendedUntil: { $lte: now } }] },
    { $or: [{ expiresAt: null }, { expiresAt: { $gt: now } }] },
  ],
});

/** The status as it is at that moment. (One that has expired keeps its status: `expires_at` says the rest.) */
export function statusAt({ status, suspendedUntil }: ServiceAccount, now: Date): ServiceAccountStatus {
  return status === 'SUSPENDED' && suspendedUntil != null && suspendedUntil <= now ? 'ACTIVE' : status;
}

/** Why it may not act, `is SUSPENDED`; undefined when it may. */
export function inactivityAt(account: ServiceAccount, now: Date): string | undefined {
  const status = statusAt(account, now);
  if (status !== 'ACTIVE') return `is ${status}`;
  const { expiresAt } = account;
  return expiresAt != null && expiresAt <= now ? `expired at ${expiresAt.toISOString()}` : undefined;
}
