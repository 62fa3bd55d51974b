// Relocate disk: into another zone. Its id and data stay. Placement is a matter of one zone, so the new one is what the request says.
import { RelocateDiskMetadata, type RelocateDiskRequest } from '../../generated/yandex/cloud/compute/v1/disk_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { findInCatalog } from '../catalog/find-in-catalog.ts';
import { zones } from '../catalog/zones.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { pack } from '../operations/pack.ts';
import { lockAuthorized, requireResource } from '../resources/require.ts';
import { describeOperation, resourceOf } from '../resources/resource-type.ts';
import { assertReady } from '../resources/status.ts';
import { assertDetached } from './delete.ts';
import { packDisk } from './disk.mapper.ts';
import type { DiskParts } from './disk-parts.ts';
import { diskResource } from './disk-resource.ts';
import { fromPlacementMessage } from './placement.ts';

export const relocateDisk =
  ({ operations, contents }: DiskParts): Method<RelocateDiskRequest, OperationMessage> =>
  async ({ diskId, destinationZoneId, diskPlacementPolicy }, call) => {
    const found = await requireResource(call.em, diskResource, diskId);
    await authorize(call, 'compute.disks.relocate', resourceOf(diskResource, found));
    const zone = findInCatalog('destination_zone_id', zones, destinationZoneId);
    const placement = fromPlacementMessage(diskPlacementPolicy);
    return operations.begin(call, async (em) => {
      const disk = await lockAuthorized(em, diskResource, found);
      assertReady('Disk', disk);
      await assertDetached(em, disk, contents);
      const sourceZoneId = disk.zoneId;
      disk.zoneId = zone.id;
      Object.assign(disk, placement);
      return {
        folderId: disk.folderId,
        resourceId: disk.id,
        resourceKind: diskResource.kind,
        description: describeOperation('Relocate', diskResource),
        metadata: pack(RelocateDiskMetadata, { diskId: disk.id, sourceZoneId, destinationZoneId: zone.id }),
        response: packDisk(disk),
      };
    });
  };
