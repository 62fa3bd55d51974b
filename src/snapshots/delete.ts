import { DeleteSnapshotMetadata, type DeleteSnapshotRequest } from '../../generated/yandex/cloud/compute/v1/snapshot_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import type { Method } from '../iam/call.ts';
import { pack } from '../operations/pack.ts';
import { deleteResource } from '../resources/delete.ts';
import type { SnapshotParts } from './snapshot-parts.ts';
import { snapshotResource } from './snapshot-resource.ts';

/** Its disk, other snapshots of it, and what was made of it keep their data: they hold their layers by roots of their own. */
export const deleteSnapshot =
  ({ operations }: SnapshotParts): Method<DeleteSnapshotRequest, OperationMessage> =>
  ({ snapshotId }, call) =>
    deleteResource(operations, call, {
      type: snapshotResource,
      id: snapshotId,
      metadata: pack(DeleteSnapshotMetadata, { snapshotId }),
    });
