// Update image: name, description, min_disk_size and labels, by the field mask. Without a mask all four are set, those that the
// request leaves out to their defaults; labels are replaced as a whole (facts: api-design-guide, standard methods).
import { type UpdateImageRequest, UpdateImageMetadata } from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { pack } from '../operations/pack.ts';
import { parseUpdateMask } from '../platform/update-mask.ts';
import { packImage } from './image.mapper.ts';
import type { ImageParts } from './image-parts.ts';
import { assertReady } from './image-status.ts';
import { lockImage, requireImage } from './require-image.ts';
import { resolveMinDiskSize } from './sizes.ts';
import { assertNameFree } from './unique-name.ts';

const updatable = ['name', 'description', 'min_disk_size', 'labels'] as const;

export const updateImage =
  ({ operations }: ImageParts): Method<UpdateImageRequest, OperationMessage> =>
  async (request, call) => {
    const { id, folderId } = await requireImage(call.em, request.imageId);
    await authorize(call, 'compute.images.update', { kind: 'compute.image', id, folderId });
    const fields = parseUpdateMask(request.updateMask, updatable);
    return operations.begin(call, async (em) => {
      const image = await lockImage(em, id);
      assertReady(image);
      if (fields.has('name') && request.name !== image.name) {
        await assertNameFree(em, folderId, request.name);
        image.name = request.name;
      }
      if (fields.has('description')) image.description = request.description;
      if (fields.has('min_disk_size')) image.minDiskSize = resolveMinDiskSize(Number(request.minDiskSize), image.size);
      if (fields.has('labels')) image.labels = request.labels;
      return {
        folderId,
        resourceId: id,
        description: 'Update image',
        metadata: pack(UpdateImageMetadata, { imageId: id }),
        response: packImage(image),
      };
    });
  };
