// Every quota of the service, ordered by id, as lists are. (src/quotas knows no resource, so the list stands here.)
import { diskSizeQuotas, disksCountQuota } from './disks/disk-quotas.ts';
import { foldersQuota } from './folders/folder-quota.ts';
import { imagesCountQuota, imagesSizeQuota, pooledImagesQuota } from './images/image-quotas.ts';
import { runningOperationsQuota } from './operations/running-operations-quota.ts';
import type { Quota } from './quotas/quota.ts';
import { serviceAccountsQuota } from './service-accounts/account-quota.ts';
import { snapshotSchedulesQuota, snapshotsCountQuota, snapshotsSizeQuota } from './snapshots/snapshot-quotas.ts';

export const quotas: readonly Quota[] = [
  imagesCountQuota,
  imagesSizeQuota,
  pooledImagesQuota,
  snapshotsCountQuota,
  snapshotsSizeQuota,
  snapshotSchedulesQuota,
  disksCountQuota,
  ...Object.values(diskSizeQuotas),
  runningOperationsQuota,
  serviceAccountsQuota,
  foldersQuota,
].sort((one, other) => (one.id < other.id ? -1 : 1));
