import type {
  ListSnapshotOperationsRequest,
  ListSnapshotOperationsResponse,
} from '../../generated/yandex/cloud/compute/v1/snapshot_service.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { listOperations } from '../operations/list-operations.ts';
import { requireResource } from '../resources/require.ts';
import { resourceOf } from '../resources/resource-type.ts';
import { snapshotResource } from './snapshot-resource.ts';

export const listSnapshotOperations =
  (): Method<ListSnapshotOperationsRequest, ListSnapshotOperationsResponse> =>
  async ({ snapshotId, ...page }, call) => {
    const snapshot = await requireResource(call.em, snapshotResource, snapshotId);
    await authorize(call, 'compute.snapshots.listOperations', resourceOf(snapshotResource, snapshot));
    return listOperations(call, 'yandex.cloud.compute.v1.SnapshotService/ListOperations', snapshot.id, page);
  };
