import { DeleteImageMetadata, type DeleteImageRequest } from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import type { Method } from '../iam/call.ts';
import { pack } from '../operations/pack.ts';
import { deleteResource } from '../resources/delete.ts';
import type { ImageParts } from './image-parts.ts';
import { imageResource } from './image-resource.ts';

/** Disks and images made of it keep their data: they hold the layer by a root of their own. */
export const deleteImage =
  ({ operations }: ImageParts): Method<DeleteImageRequest, OperationMessage> =>
  ({ imageId }, call) =>
    deleteResource(operations, call, { type: imageResource, id: imageId, metadata: pack(DeleteImageMetadata, { imageId }) });
