// Where a disk shall lie in relation to others. The wish is kept and answered, and has no effect: all disks of an installation lie on its
// own machines, and placement groups are not of this service.
import type { DiskPlacementPolicy as PlacementMessage } from '../../generated/yandex/cloud/compute/v1/disk.ts';
import { invalidArgument } from '../platform/errors.ts';

export interface Placement {
  /** Empty: none. */
  placementGroupId: string;
  /** 0: any. */
  placementGroupPartition: number;
}

const maxIdLength = 50;
/** Partitions are numbered from 1; nothing public says how many there may be. */
const maxPartition = 100;

/** No policy is no wish. @throws DomainError INVALID_ARGUMENT. */
export function fromPlacementMessage(message: PlacementMessage | undefined): Placement {
  const { placementGroupId = '', placementGroupPartition = 0n } = message ?? {};
  if (placementGroupId.length > maxIdLength) {
    throw invalidArgument('disk_placement_policy.placement_group_id', `must have at most ${maxIdLength} characters`);
  }
  if (placementGroupPartition < 0n || placementGroupPartition > maxPartition) {
    throw invalidArgument(
      'disk_placement_policy.placement_group_partition',
      `must be in the range 0-${maxPartition}, not ${placementGroupPartition}`,
    );
  }
  if (placementGroupId === '' && placementGroupPartition > 0n) {
    throw invalidArgument('disk_placement_policy.placement_group_partition', 'needs a placement_group_id');
  }
  return { placementGroupId, placementGroupPartition: Number(placementGroupPartition) };
}
