// Update image: name, description, min_disk_size and labels, by the field mask. Without a mask all four are set, those that the
// request leaves out to their defaults (facts: api-design-guide, standard methods).
import { type UpdateImageRequest, UpdateImageMetadata } from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { pack } from '../operations/pack.ts';
import { parseUpdateMask } from '../platform/update-mask.ts';
import { describe, describedFields } from '../resources/describe.ts';
import { lockAuthorized, requireResource } from '../resources/require.ts';
import { describeOperation, resourceOf } from '../resources/resource-type.ts';
import { assertReady } from '../resources/status.ts';
import { packImage } from './image.mapper.ts';
import type { ImageParts } from './image-parts.ts';
import { imageResource } from './image-resource.ts';
import { resolveMinDiskSize } from './sizes.ts';

const updatable = [...describedFields, 'min_disk_size'] as const;

export const updateImage =
  ({ operations }: ImageParts): Method<UpdateImageRequest, OperationMessage> =>
  async (request, call) => {
    const found = await requireResource(call.em, imageResource, request.imageId);
    await authorize(call, 'compute.images.update', resourceOf(imageResource, found));
    const fields = parseUpdateMask(request.updateMask, updatable);
    return operations.begin(call, async (em) => {
      const image = await lockAuthorized(em, imageResource, found);
      assertReady('Image', image);
      if (fields.has('min_disk_size')) image.minDiskSize = resolveMinDiskSize(Number(request.minDiskSize), image.size);
      await describe(em, imageResource, image, fields, request);
      return {
        folderId: image.folderId,
        resourceId: image.id,
        resourceKind: imageResource.kind,
        description: describeOperation('Update', imageResource),
        metadata: pack(UpdateImageMetadata, { imageId: image.id }),
        response: packImage(image),
      };
    });
  };
