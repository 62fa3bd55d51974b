import { Disk as DiskMessage, Disk_Status } from '../../generated/yandex/cloud/compute/v1/disk.ts';
import { toHardwareGenerationMessage } from '../catalog/guest.mapper.ts';
import { pack, type PackedMessage } from '../operations/pack.ts';
import type { Disk } from './disk.entity.ts';

export function toDiskMessage(disk: Disk): DiskMessage {
  return {
    id: disk.id,
    folderId: disk.folderId,
    createdAt: disk.createdAt,
    name: disk.name,
    description: disk.description,
    labels: disk.labels,
    typeId: disk.typeId,
    zoneId: disk.zoneId,
    size: BigInt(disk.size),
    blockSize: BigInt(disk.blockSize),
    productIds: disk.productIds,
    status: Disk_Status[disk.status],
    source: toSource(disk),
    // Machines are not of this service: what is attached here is attached by NBD.
    instanceIds: [],
    // Terraform reads it without asking whether it is there.
    diskPlacementPolicy: {
      placementGroupId: disk.placementGroupId,
      placementGroupPartition: BigInt(disk.placementGroupPartition),
    },
    hardwareGeneration: toHardwareGenerationMessage(disk.hardwareGeneration),
    kmsKey: undefined,
  };
}

/** The disk as an operation's response. */
export const packDisk = (disk: Disk): PackedMessage => pack(DiskMessage, toDiskMessage(disk));

function toSource({ sourceImageId, sourceSnapshotId }: Disk): DiskMessage['source'] {
  if (sourceImageId !== '') return { $case: 'sourceImageId', value: sourceImageId };
  if (sourceSnapshotId !== '') return { $case: 'sourceSnapshotId', value: sourceSnapshotId };
  return undefined;
}
