// Move disk: into another folder of the same cloud. Id, data and bindings stay; a name has to be free where it goes. A disk that is there
// already stays as it is, so that a call can be repeated.
import { MoveDiskMetadata, type MoveDiskRequest } from '../../generated/yandex/cloud/compute/v1/disk_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { holdFolder } from '../folders/hold-folder.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { pack } from '../operations/pack.ts';
import { failedPrecondition } from '../platform/errors.ts';
import { lockAuthorized, requireResource } from '../resources/require.ts';
import { describeOperation, resourceOf } from '../resources/resource-type.ts';
import { assertReady } from '../resources/status.ts';
import { assertNameFree } from '../resources/unique-name.ts';
import { packDisk } from './disk.mapper.ts';
import type { DiskParts } from './disk-parts.ts';
import { diskResource } from './disk-resource.ts';

export const moveDisk =
  ({ operations }: DiskParts): Method<MoveDiskRequest, OperationMessage> =>
  async ({ diskId, destinationFolderId }, call) => {
    const found = await requireResource(call.em, diskResource, diskId);
    await authorize(call, 'compute.disks.move', resourceOf(diskResource, found));
    await authorize(call, 'compute.disks.create', { kind: 'resource-manager.folder', id: destinationFolderId });
    return operations.begin(call, async (em) => {
      const disk = await lockAuthorized(em, diskResource, found);
      assertReady('Disk', disk);
      const sourceFolderId = disk.folderId;
      const source = await holdFolder(em, sourceFolderId);
      const destination = await holdFolder(em, destinationFolderId);
      if (destination.cloudId !== source.cloudId) {
        throw failedPrecondition(
          `Folder ${destination.id} is in cloud ${destination.cloudId}: disk ${disk.id} can be moved within cloud ${source.cloudId}`,
        );
      }
      if (destination.id !== source.id) {
        await assertNameFree(em, diskResource, destination.id, disk.name);
        disk.folderId = destination.id;
      }
      return {
        folderId: disk.folderId,
        resourceId: disk.id,
        resourceKind: diskResource.kind,
        description: describeOperation('Move', diskResource),
        metadata: pack(MoveDiskMetadata, { diskId: disk.id, sourceFolderId, destinationFolderId }),
        response: packDisk(disk),
      };
    });
  };
