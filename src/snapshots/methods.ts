// yandex.cloud.compute.v1.SnapshotService, whole: one file per method.
import { accessBindingMethods } from '../resources/access-bindings.ts';
import { createSnapshot } from './create.ts';
import { deleteSnapshot } from './delete.ts';
import { getSnapshot } from './get.ts';
import { listSnapshotOperations } from './list-operations.ts';
import { listSnapshots } from './list.ts';
import type { SnapshotParts } from './snapshot-parts.ts';
import { snapshotResource } from './snapshot-resource.ts';
import { updateSnapshot } from './update.ts';

export const snapshotMethods = (parts: SnapshotParts) => {
  const { operations } = parts;
  return {
    get: getSnapshot(parts),
    list: listSnapshots(),
    create: operations.idempotent(createSnapshot(parts)),
    update: operations.idempotent(updateSnapshot(parts)),
    delete: operations.idempotent(deleteSnapshot(parts)),
    listOperations: listSnapshotOperations(),
    ...accessBindingMethods(snapshotResource, operations),
  };
};
