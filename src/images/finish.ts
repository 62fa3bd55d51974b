// How the create of an image ends that took a job: a capture of its disk, or the verification of an optimized one. Called in the
// transaction that ends that job.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { JobOrder } from '../operations/operations.ts';
import type { PackedMessage } from '../operations/pack.ts';
import { lockResource } from '../resources/require.ts';
import { changeStatus } from '../resources/status.ts';
import { Image } from './image.entity.ts';
import { packImage } from './image.mapper.ts';
import { imageResource } from './image-resource.ts';
import { poolOrder } from './pool-payload.ts';

/**
 * The image's disk is captured: `root` holds all of it, durable, null for zeros; `storageSize` is what its non-zero chunks hold
 * (storedBytes). Answers the response of the operation, which is done; or, of an optimized image, the job that verifies the layer first.
 * @throws as finishImage.
 */
export async function finishCapturedImage(
  em: EntityManager,
  id: string,
  { root, storageSize }: { root: string | null; storageSize: number },
): Promise<PackedMessage | JobOrder> {
  const image = await lockResource(em, imageResource, id);
  image.storageSize = storageSize;
  return image.pooled && root !== null ? poolOrder(id, root) : ready(image, root);
}

/**
 * The image is READY: `root` holds all of it, durable and, of an optimized one, verified; null for zeros. Its storage_size is known.
 * Answers the operation's response. @throws DomainError NOT_FOUND, FAILED_PRECONDITION when it is being deleted.
 */
export async function finishImage(em: EntityManager, id: string, { root }: { root: string | null }): Promise<PackedMessage> {
  return ready(await lockResource(em, imageResource, id), root);
}

function ready(image: Image, root: string | null): PackedMessage {
  changeStatus('Image', image, 'READY');
  image.layerRoot = root;
  return packImage(image);
}

/** The create has failed or was cancelled: nothing of the image stays. */
export async function abandonImage(em: EntityManager, id: string): Promise<void> {
  await em.nativeDelete(Image, { id });
}
