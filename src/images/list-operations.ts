import type {
  ListImageOperationsRequest,
  ListImageOperationsResponse,
} from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { listOperations } from '../operations/list-operations.ts';
import { requireImage } from './require-image.ts';

export const listImageOperations =
  (): Method<ListImageOperationsRequest, ListImageOperationsResponse> =>
  async ({ imageId, ...page }, call) => {
    const { id, folderId } = await requireImage(call.em, imageId);
    await authorize(call, 'compute.images.listOperations', { kind: 'compute.image', id, folderId });
    return listOperations(call.em, 'yandex.cloud.compute.v1.ImageService/ListOperations', id, page);
  };
