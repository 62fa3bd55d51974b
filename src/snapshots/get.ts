import type { Snapshot as SnapshotMessage } from '../../generated/yandex/cloud/compute/v1/snapshot.ts';
import type { GetSnapshotRequest } from '../../generated/yandex/cloud/compute/v1/snapshot_service.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { notFound } from '../platform/errors.ts';
import { resourceOf } from '../resources/resource-type.ts';
import { toSnapshotMessage } from './snapshot.mapper.ts';
import type { SnapshotParts } from './snapshot-parts.ts';
import { snapshotResource } from './snapshot-resource.ts';

export const getSnapshot =
  ({ findSnapshot }: SnapshotParts): Method<GetSnapshotRequest, SnapshotMessage> =>
  async ({ snapshotId }, call) => {
    const snapshot = await findSnapshot(snapshotId);
    if (snapshot === undefined) throw notFound('Snapshot', snapshotId);
    await authorize(call, 'compute.snapshots.get', resourceOf(snapshotResource, snapshot));
    return toSnapshotMessage(snapshot);
  };
