// The quotas that snapshots count against. Defaults: facts, section 1.8.
import { GiB, type Quota, usageOfRows } from '../quotas/quota.ts';
import type { Demand } from '../quotas/reserve.ts';

export const snapshotsCountQuota: Quota = {
  id: 'compute.snapshots.count',
  defaultLimit: 32,
  usage: usageOfRows('snapshots', 'rows'),
};

/** The size that the disk had, not what the snapshot added (facts, section 1.8). */
export const snapshotsSizeQuota: Quota = {
  id: 'compute.snapshots.size',
  defaultLimit: 400 * GiB,
  usage: usageOfRows('snapshots', { sum: 'snapshots.disk_size' }),
};

/** There are no snapshot schedules yet, so none is used. */
export const snapshotSchedulesQuota: Quota = {
  id: 'compute.snapshotSchedules.count',
  defaultLimit: 32,
  usage: 'select 0::float8',
};

export const demandsOfSnapshot = ({ diskSize }: { diskSize: number }): Demand[] => [
  { quota: snapshotsCountQuota, amount: 1 },
  { quota: snapshotsSizeQuota, amount: diskSize },
];
