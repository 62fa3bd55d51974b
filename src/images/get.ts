import type { Image as ImageMessage } from '../../generated/yandex/cloud/compute/v1/image.ts';
import type { GetImageRequest } from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { notFound } from '../platform/errors.ts';
import { toImageMessage } from './image.mapper.ts';
import type { ImageParts } from './image-parts.ts';

export const getImage =
  ({ findImage }: ImageParts): Method<GetImageRequest, ImageMessage> =>
  async ({ imageId }, call) => {
    const image = await findImage(imageId);
    if (image === undefined) throw notFound('Image', imageId);
    await authorize(call, 'compute.images.get', { kind: 'compute.image', id: image.id, folderId: image.folderId });
    return toImageMessage(image);
  };
