// Delete image. A READY image goes in the method's own transaction; its bytes are left to garbage collection, since disks and other
// images may share them. A CREATING one is marked, its import is cancelled, and a job ends the delete when the import has ended.
import { DeleteImageMetadata, type DeleteImageRequest } from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { removeBindings } from '../iam/access-bindings.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { pack, packedEmpty } from '../operations/pack.ts';
import type { ImageParts } from './image-parts.ts';
import { changeStatus } from './image-status.ts';
import { deleteJobKind, type DeletePayload } from './delete.job.ts';
import { lockImage, requireImage } from './require-image.ts';

const description = 'Delete image';

export const deleteImage =
  ({ operations }: ImageParts): Method<DeleteImageRequest, OperationMessage> =>
  async ({ imageId }, call) => {
    const { id, folderId } = await requireImage(call.em, imageId);
    await authorize(call, 'compute.images.delete', { kind: 'compute.image', id, folderId });
    const metadata = pack(DeleteImageMetadata, { imageId: id });
    return operations.begin(call, async (em) => {
      const image = await lockImage(em, id);
      const running = await operations.running(em, id, description);
      if (running !== undefined) return running;
      const operation = { folderId, resourceId: id, description, metadata };
      if (image.status !== 'READY') {
        if (image.status === 'CREATING') {
          changeStatus(image, 'DELETING');
          await operations.requestCancel(em, id);
        }
        // An image that is DELETING with nothing running was left by a delete that failed: this one tries again.
        const payload: DeletePayload = { imageId: id };
        return { ...operation, job: { kind: deleteJobKind, payload } };
      }
      await removeBindings(em, { kind: 'compute.image', id });
      em.remove(image);
      return { ...operation, response: packedEmpty };
    });
  };
