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
import { verifyLayer } from '../storage/verify-layer.ts';
import type { CaptureTargets } from './commit.job.ts';

export const captureTargets = (fork: () => EntityManager, storage: Storage): CaptureTargets => ({
  async measure({ kind, id }, diskId, root, signal) {
    if (kind === 'snapshot') return (await measureGrowth(fork(), storage.layers, { diskId, root }, signal)).addedBytes;
    const image = await fork().findOne(Image, { id });
    if (image?.pooled === true && root !== null) await verifyLayer(storage, parsePageAddress(root), { signal });
    return storedBytes(storage.layers, root, signal);
  },
  finish: (em, { kind, id }, made) => (kind === 'image' ? finishImage(em, id, made) : finishSnapshot(em, id, made)),
  abandon: (em, { kind, id }) => (kind === 'image' ? abandonImage(em, id) : abandonSnapshot(em, id)),
});
