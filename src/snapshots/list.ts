import type { ListSnapshotsRequest, ListSnapshotsResponse } from '../../generated/yandex/cloud/compute/v1/snapshot_service.ts';
import { type ListDefinition, listPage } from '../db/listing/list-page.ts';
import type { Method } from '../iam/call.ts';
import { resourceStatuses } from '../resources/status.ts';
import { visibleIn } from '../resources/visible.ts';
import { Snapshot } from './snapshot.entity.ts';
import { toSnapshotMessage } from './snapshot.mapper.ts';
import { snapshotResource } from './snapshot-resource.ts';

const snapshots: ListDefinition<Snapshot> = {
  method: 'yandex.cloud.compute.v1.SnapshotService/List',
  entity: Snapshot,
  fields: {
    id: { type: 'text' },
    name: { type: 'text' },
    status: { type: 'text', values: resourceStatuses },
    sourceDiskId: { type: 'text' },
    createdAt: { type: 'instant' },
    diskSize: { type: 'integer' },
    storageSize: { type: 'integer' },
    description: { type: 'text', sorts: false },
  },
};

export const listSnapshots = (): Method<ListSnapshotsRequest, ListSnapshotsResponse> => async (request, call) => {
  const { folderId } = request;
  const visible = await visibleIn(call, snapshotResource, 'list', folderId);
  const page = await listPage(call.em, snapshots, { ...request, scope: { folderId }, visible });
  return { snapshots: page.items.map(toSnapshotMessage), nextPageToken: page.nextPageToken };
};
