// How many operations may run in one folder: those that a call has begun and that have a job. Not counted are what the service does on its
// own and deletes, since what makes room must not be refused. The public service has such a limit without a name (facts, section 1.8);
// ours is set per cloud, and holds for each folder.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { Quota } from '../quotas/quota.ts';
import { reserve } from '../quotas/reserve.ts';

export const runningOperationsQuota: Quota = {
  id: 'compute.runningOperations.count',
  defaultLimit: 15,
  usage: {
    ofCloud: `
      select coalesce(max(running.count), 0)
      from folders cross join lateral (select count(*) from jobs where counted_folder_id = folders.id) running
      where folders.cloud_id = $1`,
    ofFolder: 'select count(*) from jobs where counted_folder_id = $2',
  },
};

/** Room for one more of them. @throws DomainError RESOURCE_EXHAUSTED. */
export const reserveRunning = (em: EntityManager, folderId: string): Promise<void> =>
  reserve(em, { folderId }, [{ quota: runningOperationsQuota, amount: 1 }]);
