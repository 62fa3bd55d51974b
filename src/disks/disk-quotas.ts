// The quotas that disks count against: how many, and how large those of each type are together. Defaults: facts, section 1.8.
import type { DiskTypeId } from '../catalog/disk-types.ts';
import { GiB, type Quota } from '../quotas/quota.ts';
import type { Demand } from '../quotas/reserve.ts';

export const disksCountQuota: Quota = {
  id: 'compute.disks.count',
  defaultLimit: 32,
  usage: { table: 'disks', aggregate: 'count(*)' },
};

const sizeQuota = (id: string, typeId: DiskTypeId, defaultGiB: number): Quota => ({
  id,
  defaultLimit: defaultGiB * GiB,
  usage: { table: 'disks', aggregate: `coalesce(sum(disks.size) filter (where disks.type_id = '${typeId}'), 0)` },
});

export const diskSizeQuotas: Readonly<Record<DiskTypeId, Quota>> = {
  'network-hdd': sizeQuota('compute.hddDisks.size', 'network-hdd', 500),
  'network-ssd': sizeQuota('compute.ssdDisks.size', 'network-ssd', 200),
  'network-ssd-nonreplicated': sizeQuota('compute.ssdNonReplicatedDisks.size', 'network-ssd-nonreplicated', 558),
  'network-ssd-io-m3': sizeQuota('compute.ssdIOM3Disks.size', 'network-ssd-io-m3', 186),
};

/** What a new disk takes. */
export const demandsOfDisk = (disk: { typeId: string; size: number }): Demand[] => [
  { quota: disksCountQuota, amount: 1 },
  demandOfSize(disk.typeId, disk.size),
];

/** What so many bytes more take, of a disk of that type. */
export const demandOfSize = (typeId: string, bytes: number): Demand => ({
  quota: diskSizeQuotas[typeId as DiskTypeId],
  amount: bytes,
});
