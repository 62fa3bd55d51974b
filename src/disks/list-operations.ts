import type {
  ListDiskOperationsRequest,
  ListDiskOperationsResponse,
} from '../../generated/yandex/cloud/compute/v1/disk_service.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { listOperations } from '../operations/list-operations.ts';
import { requireResource } from '../resources/require.ts';
import { resourceOf } from '../resources/resource-type.ts';
import { diskResource } from './disk-resource.ts';

export const listDiskOperations =
  (): Method<ListDiskOperationsRequest, ListDiskOperationsResponse> =>
  async ({ diskId, ...page }, call) => {
    const disk = await requireResource(call.em, diskResource, diskId);
    await authorize(call, 'compute.disks.listOperations', resourceOf(diskResource, disk));
    return listOperations(call, 'yandex.cloud.compute.v1.DiskService/ListOperations', disk.id, page);
  };
