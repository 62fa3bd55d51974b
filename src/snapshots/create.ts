// What happens on Create snapshot: one transaction. The snapshot takes over the root of the disk's layer, whatever the size; a disk with
// writes that lie in no layer yet is captured by a job, as it is at this moment. One snapshot of a disk is taken at a time.
import { LockMode } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { CreateSnapshotMetadata, type CreateSnapshotRequest } from '../../generated/yandex/cloud/compute/v1/snapshot_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { fromHardwareGenerationMessage } from '../catalog/guest.mapper.ts';
import type { Disk } from '../disks/disk.entity.ts';
import { diskResource } from '../disks/disk-resource.ts';
import { holdFolder } from '../folders/hold-folder.ts';
import { authorize } from '../iam/authorize.ts';
import type { Call, Method } from '../iam/call.ts';
import { pack } from '../operations/pack.ts';
import { DomainError } from '../platform/errors.ts';
import { newId } from '../platform/ids.ts';
import { reserve } from '../quotas/reserve.ts';
import { lockSource, requireResource } from '../resources/require.ts';
import { describeOperation, resourceOf } from '../resources/resource-type.ts';
import { assertNameFree } from '../resources/unique-name.ts';
import type { Layers } from '../storage/layers.ts';
import { type Growth, measureGrowth, previousRoot } from './growth.ts';
import { Snapshot } from './snapshot.entity.ts';
import { packSnapshot } from './snapshot.mapper.ts';
import type { SnapshotParts } from './snapshot-parts.ts';
import { demandsOfSnapshot } from './snapshot-quotas.ts';
import { snapshotResource } from './snapshot-resource.ts';

export const createSnapshot =
  ({ operations, contents, layers }: SnapshotParts): Method<CreateSnapshotRequest, OperationMessage> =>
  async (request, call) => {
    const { folderId } = request;
    await authorize(call, 'compute.snapshots.create', { kind: 'resource-manager.folder', id: folderId });
    const measured = await measureAhead(call, layers, request.diskId);
    return operations.begin(call, async (em) => {
      await holdFolder(em, folderId);
      const disk = await lockSource(em, call, diskResource, request.diskId, LockMode.PESSIMISTIC_WRITE);
      await assertNoneUnderWay(em, disk);
      const settled = await contents.settledRoot(em, disk);
      const storageSize = settled === undefined ? 0 : await growthOf(em, layers, disk, settled.root, measured);
      await assertNameFree(em, snapshotResource, folderId, request.name);
      await reserve(em, { folderId }, demandsOfSnapshot({ diskSize: disk.size }));
      const snapshot = em.create(Snapshot, {
        id: newId('snapshot'),
        folderId,
        createdAt: new Date(),
        name: request.name,
        description: request.description,
        labels: request.labels,
        storageSize,
        diskSize: disk.size,
        productIds: disk.productIds,
        status: settled === undefined ? 'CREATING' : 'READY',
        sourceDiskId: disk.id,
        os: disk.os,
        hardwareGeneration: fromHardwareGenerationMessage(request.hardwareGeneration, disk.hardwareGeneration),
        layerRoot: settled?.root ?? null,
      });
      const operation = {
        folderId,
        resourceId: snapshot.id,
        resourceKind: snapshotResource.kind,
        description: describeOperation('Create', snapshotResource),
        metadata: pack(CreateSnapshotMetadata, { snapshotId: snapshot.id, diskId: disk.id }),
      };
      if (settled !== undefined) return { ...operation, response: packSnapshot(snapshot) };
      return { ...operation, job: await contents.captureJob(em, disk, { kind: 'snapshot', id: snapshot.id }) };
    });
  };

/** @throws DomainError ABORTED while another snapshot of the disk is being taken. */
async function assertNoneUnderWay(em: EntityManager, disk: Disk): Promise<void> {
  const other = await em.findOne(Snapshot, { sourceDiskId: disk.id, status: 'CREATING' });
  if (other !== null) {
    throw new DomainError('ABORTED', `Snapshot ${other.id} of disk ${disk.id} is being taken: try again when it is READY`);
  }
}

/**
 * Compares layers before the transaction, so that no lock is held while pages of a large disk are read. Advice: without the locks the
 * layers may change, or go, meanwhile.
 */
async function measureAhead(call: Call, layers: Layers, diskId: string): Promise<Growth | undefined> {
  const disk = await requireResource(call.em, diskResource, diskId);
  await authorize(call, 'compute.disks.use', resourceOf(diskResource, disk));
  if (disk.machineId !== null) return undefined;
  return measureGrowth(call.em, layers, { diskId, root: disk.layerRoot ?? null }, call.signal).catch(() => undefined);
}

/** What was measured, when it still holds; else measured again, with both ends held. */
async function growthOf(
  em: EntityManager,
  layers: Layers,
  { id: diskId }: Disk,
  root: string | null,
  measured: Growth | undefined,
): Promise<number> {
  const lockMode = LockMode.PESSIMISTIC_READ;
  const before = await previousRoot(em, diskId, lockMode);
  if (measured !== undefined && measured.root === root && measured.before === before) return measured.addedBytes;
  return (await measureGrowth(em, layers, { diskId, root, lockMode })).addedBytes;
}
