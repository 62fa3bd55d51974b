// The quotas that snapshots count against. Defaults: facts, section 1.8.
import { GiB, type Quota } from '../quotas/quota.ts';
import type { Demand } from '../quotas/reserve.ts';

export const snapshotsCountQuota: Quota = {
  id: 'compute.snapshots.count',
  defaultLimit: 32,
  usage: { table: 'snapshots', aggregate: 'count(*)' },
};

/** The size that the disk had, not what the snapshot added (facts, section 1.8). */
export const snapshotsSizeQuota: Quota = {
  id: 'compute.snapshots.size',
  defaultLimit: 400 * GiB,
  usage: { table: 'snapshots', aggregate: 'coalesce(sum(snapshots.disk_size), 0)' },
};

/** There are no snapshot schedules yet, so none is used. */
export const snapshotSchedulesQuota: Quota = {
  id: 'compute.snapshotSchedules.count',
  defaultLimit: 32,
  usage: { ofCloud: 'select 0' },
};

export const demandsOfSnapshot = ({ diskSize }: { diskSize: number }): Demand[] => [
  { quota: snapshotsCountQuota, amount: 1 },
  { quota: snapshotsSizeQuota, amount: diskSize },
];
