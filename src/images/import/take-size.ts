// An import takes its disk's size of the cloud's quota as soon as the source has told it, and before the first chunk is stored.
//
// The image's row is what counts: its `size` says what the import has taken. So a later attempt takes the difference to what an earlier
// one took, and nothing is to be given back when the row goes.
import type { EntityManager } from '@mikro-orm/postgresql';
import { LeaseLost, type RunningJob } from '../../operations/job-handler.ts';
import { holdsJob } from '../../operations/job-queries.ts';
import { failedPrecondition } from '../../platform/errors.ts';
import { reserve } from '../../quotas/reserve.ts';
import { lockResource } from '../../resources/require.ts';
import { imagesSizeQuota } from '../image-quotas.ts';
import { imageResource } from '../image-resource.ts';

/**
 * Call it when no transaction is open.
 * @throws DomainError RESOURCE_EXHAUSTED with a QuotaFailure, and nothing has changed then; FAILED_PRECONDITION when the image is being
 * deleted. LeaseLost when another attempt has taken over.
 */
export async function takeSize(
  fork: () => EntityManager,
  job: Pick<RunningJob, 'operationId' | 'attempt'>,
  imageId: string,
  sizeBytes: number,
): Promise<void> {
  await fork().transactional(async (em) => {
    const image = await lockResource(em, imageResource, imageId);
    if (image.status !== 'CREATING') throw failedPrecondition(`Image ${imageId} is ${image.status}: it is not imported any more`);
    if (image.size === sizeBytes) return;
    await reserve(em, { folderId: image.folderId }, [{ quota: imagesSizeQuota, amount: sizeBytes - image.size }]);
    image.size = sizeBytes;
    await em.flush();
    // Last: what was waited for may have taken longer than the lease.
    if (!(await holdsJob(em, job))) throw new LeaseLost();
  });
}
