import type { FilterQuery } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import type { Image as ImageMessage } from '../../generated/yandex/cloud/compute/v1/image.ts';
import type { GetImageLatestByFamilyRequest } from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import type { Method } from '../iam/call.ts';
import { DomainError, invalidArgument } from '../platform/errors.ts';
import { visibleIn } from '../resources/visible.ts';
import { Image } from './image.entity.ts';
import { toImageMessage } from './image.mapper.ts';
import type { ImageParts } from './image-parts.ts';
import { imageResource } from './image-resource.ts';

/** The newest READY image of a family in one folder. Only READY counts, so that what is answered can be used at once. */
export const getLatestImageByFamily =
  ({ findLatestImage }: ImageParts): Method<GetImageLatestByFamilyRequest, ImageMessage> =>
  async ({ folderId, family }, call) => {
    if (family === '') throw invalidArgument('family', 'must not be empty');
    const visible = await visibleIn(call, imageResource, 'get', folderId);
    const image =
      visible === undefined ? await findLatestImage(folderId, family) : await newestOf(call.em, folderId, family, visible);
    if (image === undefined) throw new DomainError('NOT_FOUND', `Folder ${folderId} has no READY image of family "${family}"`);
    return toImageMessage(image);
  };

async function newestOf(
  em: EntityManager,
  folderId: string,
  family: string,
  visible: FilterQuery<Image>,
): Promise<Image | undefined> {
  const image = await em.findOne(
    Image,
    { $and: [{ folderId, family, status: 'READY' }, visible] },
    { orderBy: { createdAt: 'desc', id: 'desc' } },
  );
  return image ?? undefined;
}
