// What captures of disks make: snapshots and images, as their own folders end them.
import type { EntityManager } from '@mikro-orm/postgresql';
import { abandonImage, finishCapturedImage } from '../images/finish.ts';
import { abandonSnapshot, finishSnapshot } from '../snapshots/finish.ts';
import { measureGrowth } from '../snapshots/growth.ts';
import { storedBytes } from '../storage/layer-size.ts';
import type { Storage } from '../storage/open.ts';
import type { CaptureTargets } from './commit.job.ts';

export const captureTargets = (fork: () => EntityManager, { layers }: Pick<Storage, 'layers'>): CaptureTargets => ({
  async measure({ kind }, diskId, root, signal) {
    if (kind === 'image') return storedBytes(layers, root, signal);
    return (await measureGrowth(fork(), layers, { diskId, root }, signal)).addedBytes;
  },
  finish: (em, { kind, id }, made) => (kind === 'image' ? finishCapturedImage(em, id, made) : finishSnapshot(em, id, made)),
  abandon: (em, { kind, id }) => (kind === 'image' ? abandonImage(em, id) : abandonSnapshot(em, id)),
});
