import type { Quota } from '../quotas/quota.ts';

/** How many service accounts a cloud has in all of its folders. The public default is not documented: this one is ours. */
export const serviceAccountsQuota: Quota = {
  id: 'iam.serviceAccounts.count',
  defaultLimit: 100,
  usage: { table: 'service_accounts', aggregate: 'count(*)' },
};
