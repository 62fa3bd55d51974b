// Optimized ("pooled") images: their layer is held ready on the machines that serve it, and every object of it is read and compared with
// its hash before the image is READY. With image data in a folder all of it is on the serving machines already, so what is left to do is
// the verification. An image from a URI is verified by its import; one from an image, a snapshot or a disk by this job.
import type { JobHandler, RunningJob } from '../operations/job-handler.ts';
import { parsePageAddress } from '../storage/address.ts';
import type { Storage } from '../storage/open.ts';
import { chunkBytes } from '../storage/sizes.ts';
import { type LayerProgress, verifyLayer } from '../storage/verify-layer.ts';
import { abandonImage, finishImage } from './finish.ts';
import { poolJobKind, type PoolPayload } from './pool-payload.ts';

// A type, not an interface: it is kept as JSON.
export type PoolCheckpoint = { verified: LayerProgress };

const checkpointIntervalMs = 2_000;

export const poolJob = (storage: Storage): JobHandler<PoolPayload, PoolCheckpoint> => ({
  kind: poolJobKind,
  async run(job) {
    const { imageId, root } = job.payload;
    await verifyPooled(storage, root, job, {
      from: job.checkpoint?.verified,
      save: (verified) => job.saveCheckpoint({ verified }),
    });
    return (em) => finishImage(em, imageId, { root });
  },
  abandon: (em, { imageId }) => abandonImage(em, imageId),
});

interface Resumption {
  from: LayerProgress | undefined;
  /** Told now and then how far the verification is. */
  save: (verified: LayerProgress) => Promise<void>;
}

/**
 * Part of every job that makes a pooled image, before its effect: `root` is the layer that the image will have, pinned by the job.
 * @throws DomainError DATA_LOSS when an object of it is damaged or missing.
 */
export async function verifyPooled(
  storage: Storage,
  root: string,
  job: Pick<RunningJob, 'progress' | 'signal'>,
  resumption?: Resumption,
): Promise<void> {
  const address = parsePageAddress(root);
  const layer = await storage.layers.open(address, job.signal);
  job.progress({ bytesDone: 0, bytesTotal: layer.chunkCount * chunkBytes, phase: 'verifying' });
  let nextSaveAt = performance.now() + checkpointIntervalMs;
  await verifyLayer(storage, address, {
    signal: job.signal,
    from: resumption?.from,
    async onProgress(verified) {
      job.progress({ bytesDone: verified.chunks * chunkBytes });
      if (resumption === undefined || performance.now() < nextSaveAt) return;
      await resumption.save(verified);
      nextSaveAt = performance.now() + checkpointIntervalMs;
    },
  });
}
