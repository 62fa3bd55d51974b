// Update snapshot: name, description and labels, by the field mask. Without a mask all three are set, those that the request leaves out
// to their defaults.
import { UpdateSnapshotMetadata, type UpdateSnapshotRequest } from '../../generated/yandex/cloud/compute/v1/snapshot_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { pack } from '../operations/pack.ts';
import { parseUpdateMask } from '../platform/update-mask.ts';
import { describe, describedFields } from '../resources/describe.ts';
import { lockAuthorized, requireResource } from '../resources/require.ts';
import { describeOperation, resourceOf } from '../resources/resource-type.ts';
import { assertReady } from '../resources/status.ts';
import { packSnapshot } from './snapshot.mapper.ts';
import type { SnapshotParts } from './snapshot-parts.ts';
import { snapshotResource } from './snapshot-resource.ts';

export const updateSnapshot =
  ({ operations }: SnapshotParts): Method<UpdateSnapshotRequest, OperationMessage> =>
  async (request, call) => {
    const found = await requireResource(call.em, snapshotResource, request.snapshotId);
    await authorize(call, 'compute.snapshots.update', resourceOf(snapshotResource, found));
    const fields = parseUpdateMask(request.updateMask, describedFields);
    return operations.begin(call, async (em) => {
      const snapshot = await lockAuthorized(em, snapshotResource, found);
      assertReady('Snapshot', snapshot);
      await describe(em, snapshotResource, snapshot, fields, request);
      return {
        folderId: snapshot.folderId,
        resourceId: snapshot.id,
        resourceKind: snapshotResource.kind,
        description: describeOperation('Update', snapshotResource),
        metadata: pack(UpdateSnapshotMetadata, { snapshotId: snapshot.id }),
        response: packSnapshot(snapshot),
      };
    });
  };
