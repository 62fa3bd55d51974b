import { type ListImagesRequest, type ListImagesResponse } from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import { type ListDefinition, listPage } from '../db/listing/list-page.ts';
import type { Method } from '../iam/call.ts';
import { resourceStatuses } from '../resources/status.ts';
import { visibleIn } from '../resources/visible.ts';
import { Image } from './image.entity.ts';
import { toImageMessage } from './image.mapper.ts';
import { imageResource } from './image-resource.ts';

const images: ListDefinition<Image> = {
  method: 'yandex.cloud.compute.v1.ImageService/List',
  entity: Image,
  fields: {
    id: { type: 'text' },
    name: { type: 'text' },
    family: { type: 'text' },
    status: { type: 'text', values: resourceStatuses },
    createdAt: { type: 'instant' },
    size: { type: 'integer' },
    storageSize: { type: 'integer' },
    minDiskSize: { type: 'integer' },
    description: { type: 'text', sorts: false },
  },
};

export const listImages = (): Method<ListImagesRequest, ListImagesResponse> => async (request, call) => {
  const { folderId } = request;
  const visible = await visibleIn(call, imageResource, 'list', folderId);
  const page = await listPage(call.em, images, { ...request, scope: { folderId }, visible });
  return { images: page.items.map(toImageMessage), nextPageToken: page.nextPageToken };
};
