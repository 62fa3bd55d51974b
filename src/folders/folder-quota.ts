import type { Quota } from '../quotas/quota.ts';

/** How many folders a cloud has. The public default is not documented: this one is ours. */
export const foldersQuota: Quota = {
  id: 'resource-manager.folders.count',
  defaultLimit: 100,
  usage: { ofCloud: 'select count(*) from folders where cloud_id = $1' },
};
