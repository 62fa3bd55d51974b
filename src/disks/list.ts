import type { ListDisksRequest, ListDisksResponse } from '../../generated/yandex/cloud/compute/v1/disk_service.ts';
import { diskTypes } from '../catalog/disk-types.ts';
import { zoneIds } from '../catalog/zones.ts';
import { type ListDefinition, listPage } from '../db/listing/list-page.ts';
import type { Method } from '../iam/call.ts';
import { resourceStatuses } from '../resources/status.ts';
import { visibleIn } from '../resources/visible.ts';
import { Disk } from './disk.entity.ts';
import { toDiskMessage } from './disk.mapper.ts';
import { diskResource } from './disk-resource.ts';

const disks: ListDefinition<Disk> = {
  method: 'yandex.cloud.compute.v1.DiskService/List',
  entity: Disk,
  fields: {
    id: { type: 'text' },
    name: { type: 'text' },
    typeId: { type: 'text', values: diskTypes.map(({ id }) => id) },
    zoneId: { type: 'text', values: zoneIds },
    status: { type: 'text', values: resourceStatuses },
    createdAt: { type: 'instant' },
    size: { type: 'integer' },
    blockSize: { type: 'integer' },
    sourceImageId: { type: 'text' },
    sourceSnapshotId: { type: 'text' },
    description: { type: 'text', sorts: false },
  },
};

export const listDisks = (): Method<ListDisksRequest, ListDisksResponse> => async (request, call) => {
  const { folderId } = request;
  const visible = await visibleIn(call, diskResource, 'list', folderId);
  const page = await listPage(call.em, disks, { ...request, scope: { folderId }, visible });
  return { disks: page.items.map(toDiskMessage), nextPageToken: page.nextPageToken };
};
