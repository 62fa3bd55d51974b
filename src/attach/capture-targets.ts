// What captures of disks make: snapshots and images, as their own folders end them. An optimized image's layer is verified before it is
// measured.
import type { EntityManager } from '@mikro-orm/postgresql';
import { abandonImage, finishImage } from '../images/finish.ts';
import { Image } from '../images/image.entity.ts';
import { abandonSnapshot, finishSnapshot } from '../snapshots/finish.ts';
import { measureGrowth } from '../snapshots/growth.ts';
import { storedBytes } from '../storage/layer-size.ts';
import { parsePageAddress } from '../storage/address.ts';
import type { Storage } from '../storage/open.ts';
import { Semaphore } from '../platform/semaphore.ts';
import { verifyLayer } from '../storage/verify-layer.ts';
import type { CaptureTargets } from './commit.job.ts';

/** Layers that are verified at once: it takes long, and the commits of their disks wait for it. */
const verifiedAtOnce = 2;

/** @param onMoved hears that a verification gets on, which holds up commits */
export const captureTargets = (fork: () => EntityManager, storage: Storage, onMoved = (): void => {}): CaptureTargets => {
  const verifications = new Semaphore(verifiedAtOnce);
  return {
    async measure({ kind, id }, diskId, root, signal) {
      if (kind === 'snapshot') return (await measureGrowth(fork(), storage.layers, { diskId, root }, signal)).addedBytes;
      const image = await fork().findOne(Image, { id });
      if (image?.pooled === true && root !== null) {
        const release = await verifications.acquire(signal);
        try {
          await verifyLayer(storage, parsePageAddress(root), { signal, onProgress: onMoved });
        } finally {
          release();
        }
      }
      return storedBytes(storage.layers, root, signal);
    },
    finish: (em, { kind, id }, made) => (kind === 'image' ? finishImage(em, id, made) : finishSnapshot(em, id, made)),
    abandon: (em, { kind, id }) => (kind === 'image' ? abandonImage(em, id) : abandonSnapshot(em, id)),
  };
};
