import type {
  ListImageOperationsRequest,
  ListImageOperationsResponse,
} from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { listOperations } from '../operations/list-operations.ts';
import { requireResource } from '../resources/require.ts';
import { resourceOf } from '../resources/resource-type.ts';
import { imageResource } from './image-resource.ts';

export const listImageOperations =
  (): Method<ListImageOperationsRequest, ListImageOperationsResponse> =>
  async ({ imageId, ...page }, call) => {
    const image = await requireResource(call.em, imageResource, imageId);
    await authorize(call, 'compute.images.listOperations', resourceOf(imageResource, image));
    return listOperations(call, 'yandex.cloud.compute.v1.ImageService/ListOperations', image.id, page);
  };
