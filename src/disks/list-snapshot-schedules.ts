import type {
  ListDiskSnapshotSchedulesRequest,
  ListDiskSnapshotSchedulesResponse,
} from '../../generated/yandex/cloud/compute/v1/disk_service.ts';
import { pageOf } from '../db/listing/list-fixed.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { requireResource } from '../resources/require.ts';
import { resourceOf } from '../resources/resource-type.ts';
import { diskResource } from './disk-resource.ts';

/** There are no schedules yet, so no disk is in one. */
export const listDiskSnapshotSchedules =
  (): Method<ListDiskSnapshotSchedulesRequest, ListDiskSnapshotSchedulesResponse> =>
  async ({ diskId, ...page }, call) => {
    const disk = await requireResource(call.em, diskResource, diskId);
    await authorize(call, 'compute.disks.listSnapshotSchedules', resourceOf(diskResource, disk));
    const { nextPageToken } = pageOf('yandex.cloud.compute.v1.DiskService/ListSnapshotSchedules', [], page);
    return { snapshotSchedules: [], nextPageToken };
  };
