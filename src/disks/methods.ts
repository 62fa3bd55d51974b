// yandex.cloud.compute.v1.DiskService, whole: one file per method.
import { accessBindingMethods } from '../resources/access-bindings.ts';
import { createDisk } from './create.ts';
import { deleteDisk } from './delete.ts';
import type { DiskParts } from './disk-parts.ts';
import { diskResource } from './disk-resource.ts';
import { getDisk } from './get.ts';
import { listDiskOperations } from './list-operations.ts';
import { listDiskSnapshotSchedules } from './list-snapshot-schedules.ts';
import { listDisks } from './list.ts';
import { moveDisk } from './move.ts';
import { relocateDisk } from './relocate.ts';
import { updateDisk } from './update.ts';

export const diskMethods = (parts: DiskParts) => {
  const { operations } = parts;
  return {
    get: getDisk(parts),
    list: listDisks(),
    create: operations.idempotent(createDisk(parts)),
    update: operations.idempotent(updateDisk(parts)),
    delete: operations.idempotent(deleteDisk(parts)),
    listOperations: listDiskOperations(),
    move: operations.idempotent(moveDisk(parts)),
    relocate: operations.idempotent(relocateDisk(parts)),
    listSnapshotSchedules: listDiskSnapshotSchedules(),
    ...accessBindingMethods(diskResource, operations),
  };
};
