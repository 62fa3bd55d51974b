// What happens on Create disk: one transaction, whatever the size. The disk takes over the root of its source's layer; not a byte is
// copied, and what lies past the end of the source is zeros.
import type { EntityManager } from '@mikro-orm/postgresql';
import { CreateDiskMetadata, type CreateDiskRequest } from '../../generated/yandex/cloud/compute/v1/disk_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { defaultDiskTypeId, diskTypes } from '../catalog/disk-types.ts';
import { fromHardwareGenerationMessage } from '../catalog/guest.mapper.ts';
import { defaultHardwareGeneration, defaultOs, type HardwareGeneration, type Os } from '../catalog/guest.ts';
import { findInCatalog } from '../catalog/find-in-catalog.ts';
import { zones } from '../catalog/zones.ts';
import { holdFolder } from '../folders/hold-folder.ts';
import { authorize } from '../iam/authorize.ts';
import type { Call, Method } from '../iam/call.ts';
import { imageResource } from '../images/image-resource.ts';
import { pack } from '../operations/pack.ts';
import { DomainError, invalidArgument, notFound } from '../platform/errors.ts';
import { newId } from '../platform/ids.ts';
import { reserve } from '../quotas/reserve.ts';
import { lockSource } from '../resources/require.ts';
import { describeOperation } from '../resources/resource-type.ts';
import { assertNameFree } from '../resources/unique-name.ts';
import { snapshotResource } from '../snapshots/snapshot-resource.ts';
import { Disk } from './disk.entity.ts';
import { packDisk } from './disk.mapper.ts';
import type { DiskParts } from './disk-parts.ts';
import { demandsOfDisk } from './disk-quotas.ts';
import { diskResource } from './disk-resource.ts';
import { fromPlacementMessage } from './placement.ts';
import { assertHolds, assertSizeFits, parseBlockSize } from './sizes.ts';

export const createDisk =
  ({ operations }: DiskParts): Method<CreateDiskRequest, OperationMessage> =>
  async (request, call) => {
    const { folderId, name } = request;
    await authorize(call, 'compute.disks.create', { kind: 'resource-manager.folder', id: folderId });
    const wanted = parse(request);
    return operations.begin(call, async (em) => {
      await holdFolder(em, folderId);
      const source = await takeSource(em, call, request.source);
      assertHolds(wanted.size, source.label, source.leastBytes);
      await assertNameFree(em, diskResource, folderId, name);
      await reserve(em, { folderId }, demandsOfDisk(wanted));
      const disk = em.create(Disk, {
        ...wanted,
        id: newId('disk', wanted.zoneId),
        folderId,
        createdAt: new Date(),
        name,
        description: request.description,
        labels: request.labels,
        productIds: source.productIds,
        status: 'READY',
        sourceImageId: source.imageId ?? '',
        sourceSnapshotId: source.snapshotId ?? '',
        os: source.os,
        hardwareGeneration: fromHardwareGenerationMessage(request.hardwareGeneration, source.hardwareGeneration),
        layerRoot: source.layerRoot ?? null,
        machineId: null,
      });
      return {
        folderId,
        resourceId: disk.id,
        resourceKind: diskResource.kind,
        description: describeOperation('Create', diskResource),
        metadata: pack(CreateDiskMetadata, { diskId: disk.id }),
        response: packDisk(disk),
      };
    });
  };

/** What can be known without a look at the source. @throws DomainError INVALID_ARGUMENT, NOT_FOUND, UNIMPLEMENTED. */
function parse(request: CreateDiskRequest) {
  if (request.kmsKeyId !== '') throw new DomainError('UNIMPLEMENTED', 'kms_key_id: disks are not encrypted; leave it out');
  const [scheduleId] = request.snapshotScheduleIds;
  if (scheduleId !== undefined) throw notFound('Snapshot schedule', scheduleId.slice(0, 50));
  const type = findInCatalog('type_id', diskTypes, request.typeId === '' ? defaultDiskTypeId : request.typeId);
  const zone = findInCatalog('zone_id', zones, request.zoneId);
  const size = Number(request.size);
  const blockSize = parseBlockSize(request.blockSize);
  assertSizeFits(size, type, blockSize);
  return { typeId: type.id, zoneId: zone.id, size, blockSize, ...fromPlacementMessage(request.diskPlacementPolicy) };
}

interface Source {
  /** As messages name it. */
  label: string;
  leastBytes: number;
  imageId?: string;
  snapshotId?: string;
  productIds: string[];
  os: Os;
  hardwareGeneration: HardwareGeneration;
  layerRoot?: string | null | undefined;
}

const nothing: Source = {
  label: 'an empty disk',
  leastBytes: 0,
  productIds: [],
  os: defaultOs,
  hardwareGeneration: defaultHardwareGeneration,
};

/** The source, held until the disk is committed: its delete waits, and garbage collection finds the root at one of the two. */
async function takeSource(em: EntityManager, call: Call, source: CreateDiskRequest['source']): Promise<Source> {
  if (source === undefined) return nothing;
  if (source.value === '') {
    throw invalidArgument(source.$case === 'imageId' ? 'image_id' : 'snapshot_id', 'is empty; leave it out for an empty disk');
  }
  if (source.$case === 'imageId') {
    const { id, minDiskSize, productIds, os, hardwareGeneration, layerRoot } = await lockSource(
      em,
      call,
      imageResource,
      source.value,
    );
    return { label: `image ${id}`, leastBytes: minDiskSize, imageId: id, productIds, os, hardwareGeneration, layerRoot };
  }
  const { id, diskSize, productIds, os, hardwareGeneration, layerRoot } = await lockSource(
    em,
    call,
    snapshotResource,
    source.value,
  );
  return { label: `snapshot ${id}`, leastBytes: diskSize, snapshotId: id, productIds, os, hardwareGeneration, layerRoot };
}
