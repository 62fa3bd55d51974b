// Ends the delete of an image whose import was still running: waits until the cancelled import has ended, which removes the image, and
// removes what is left when the import had no say any more.
import { removeBindings } from '../iam/access-bindings.ts';
import type { JobHandler } from '../operations/job-handler.ts';
import type { Operations } from '../operations/operations.ts';
import { packedEmpty } from '../operations/pack.ts';
import { Image } from './image.entity.ts';

export type DeletePayload = { imageId: string };

export const deleteJobKind = 'image.delete';

export const deleteImageJob = (operations: Operations): JobHandler<DeletePayload, never> => ({
  kind: deleteJobKind,
  async run({ payload: { imageId }, operationId, signal }) {
    await operations.whenOthersEnded(imageId, operationId, signal);
    return async (em) => {
      await removeBindings(em, { kind: 'compute.image', id: imageId });
      await em.nativeDelete(Image, { id: imageId });
      return packedEmpty;
    };
  },
  // A delete is never given up half-way; the image stays DELETING until a later attempt ends it.
  async abandon() {},
});
