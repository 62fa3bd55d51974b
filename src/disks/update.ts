// Update disk: name, description, labels, size and placement, by the field mask. Without a mask all are set, those that the request
// leaves out to their defaults; a size has none, so one that is left out stays. A disk grows, and never shrinks.
import type { EntityManager } from '@mikro-orm/postgresql';
import { UpdateDiskMetadata, type UpdateDiskRequest } from '../../generated/yandex/cloud/compute/v1/disk_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { diskTypes } from '../catalog/disk-types.ts';
import { findInCatalog } from '../catalog/find-in-catalog.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { pack } from '../operations/pack.ts';
import { invalidArgument } from '../platform/errors.ts';
import { parseUpdateMask } from '../platform/update-mask.ts';
import { reserve } from '../quotas/reserve.ts';
import { describe, describedFields } from '../resources/describe.ts';
import { lockAuthorized, requireResource } from '../resources/require.ts';
import { describeOperation, resourceOf } from '../resources/resource-type.ts';
import { assertReady } from '../resources/status.ts';
import type { DiskContents } from './disk-contents.ts';
import type { Disk } from './disk.entity.ts';
import { packDisk } from './disk.mapper.ts';
import type { DiskParts } from './disk-parts.ts';
import { demandOfSize } from './disk-quotas.ts';
import { diskResource } from './disk-resource.ts';
import { fromPlacementMessage } from './placement.ts';
import { assertSizeFits } from './sizes.ts';

const placementFields = ['disk_placement_policy.placement_group_id', 'disk_placement_policy.placement_group_partition'] as const;
const updatable = [...describedFields, 'size', 'disk_placement_policy', ...placementFields] as const;

export const updateDisk =
  ({ operations, contents }: DiskParts): Method<UpdateDiskRequest, OperationMessage> =>
  async (request, call) => {
    const found = await requireResource(call.em, diskResource, request.diskId);
    await authorize(call, 'compute.disks.update', resourceOf(diskResource, found));
    const fields: Set<string> = parseUpdateMask(request.updateMask, updatable);
    const hasMask = (request.updateMask ?? []).length > 0;
    if (hasMask && fields.has('size') && request.size === 0n)
      throw invalidArgument('size', 'must be given: update_mask names it');
    return operations.begin(call, async (em) => {
      const disk = await lockAuthorized(em, diskResource, found);
      assertReady('Disk', disk);
      const size = fields.has('size') && request.size !== 0n ? Number(request.size) : disk.size;
      await prepareGrowth(em, disk, size, contents);
      place(disk, fields, request);
      await describe(em, diskResource, disk, fields, request);
      await reserve(em, { folderId: disk.folderId }, [demandOfSize(disk.typeId, size - disk.size)]);
      disk.size = size;
      return {
        folderId: disk.folderId,
        resourceId: disk.id,
        resourceKind: diskResource.kind,
        description: describeOperation('Update', diskResource),
        metadata: pack(UpdateDiskMetadata, { diskId: disk.id }),
        response: packDisk(disk),
      };
    });
  };

async function prepareGrowth(em: EntityManager, disk: Disk, sizeBytes: number, contents: DiskContents): Promise<void> {
  if (sizeBytes === disk.size) return;
  if (sizeBytes < disk.size) throw invalidArgument('size', `is ${disk.size} now and cannot become less, not even ${sizeBytes}`);
  assertSizeFits(sizeBytes, findInCatalog('type_id', diskTypes, disk.typeId), disk.blockSize);
  await contents.growing(em, disk, sizeBytes);
}

function place(disk: Disk, fields: ReadonlySet<string>, { diskPlacementPolicy }: UpdateDiskRequest): void {
  const isWhole = fields.has('disk_placement_policy');
  const [setsGroup, setsPartition] = placementFields.map((field) => isWhole || fields.has(field));
  if (!setsGroup && !setsPartition) return;
  const group = setsGroup ? (diskPlacementPolicy?.placementGroupId ?? '') : disk.placementGroupId;
  const given = setsPartition ? (diskPlacementPolicy?.placementGroupPartition ?? 0n) : BigInt(disk.placementGroupPartition);
  // A disk that leaves its group leaves the group's partition as well.
  const partition = group === '' && !setsPartition ? 0n : given;
  Object.assign(disk, fromPlacementMessage({ placementGroupId: group, placementGroupPartition: partition }));
}
