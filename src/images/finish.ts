// How the create of an image ends that took a job: a capture of its disk, or the verification of an optimized one. Called in the transaction that ends its operation.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { PackedMessage } from '../operations/pack.ts';
import { lockResource } from '../resources/require.ts';
import { changeStatus } from '../resources/status.ts';
import { Image } from './image.entity.ts';
import { packImage } from './image.mapper.ts';
import { imageResource } from './image-resource.ts';

/**
 * The image is READY: `root` holds all of it, durable, null for zeros; `storageSize` is what its non-zero chunks hold (storedBytes),
 * where it was not known before.
 * Answers the operation's response. @throws DomainError NOT_FOUND, FAILED_PRECONDITION when it is being deleted.
 */
export async function finishImage(
  em: EntityManager,
  id: string,
  { root, storageSize }: { root: string | null; storageSize?: number },
): Promise<PackedMessage> {
  const image = await lockResource(em, imageResource, id);
  changeStatus('Image', image, 'READY');
  if (storageSize !== undefined) image.storageSize = storageSize;
  image.layerRoot = root;
  return packImage(image);
}

/** The create has failed or was cancelled: nothing of the image stays. */
export async function abandonImage(em: EntityManager, id: string): Promise<void> {
  await em.nativeDelete(Image, { id });
}
