import type { Disk as DiskMessage } from '../../generated/yandex/cloud/compute/v1/disk.ts';
import type { GetDiskRequest } from '../../generated/yandex/cloud/compute/v1/disk_service.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { notFound } from '../platform/errors.ts';
import { resourceOf } from '../resources/resource-type.ts';
import { toDiskMessage } from './disk.mapper.ts';
import type { DiskParts } from './disk-parts.ts';
import { diskResource } from './disk-resource.ts';

export const getDisk =
  ({ findDisk }: DiskParts): Method<GetDiskRequest, DiskMessage> =>
  async ({ diskId }, call) => {
    const disk = await findDisk(diskId);
    if (disk === undefined) throw notFound('Disk', diskId);
    await authorize(call, 'compute.disks.get', resourceOf(diskResource, disk));
    return toDiskMessage(disk);
  };
