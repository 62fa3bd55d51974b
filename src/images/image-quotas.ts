// The quotas that images count against. One that is being made or deleted counts: its row is there. Defaults: facts, section 1.8.
import { GiB, type Quota } from '../quotas/quota.ts';
import type { Demand } from '../quotas/reserve.ts';

export const imagesCountQuota: Quota = {
  id: 'compute.images.count',
  defaultLimit: 32,
  usage: { table: 'images', aggregate: 'count(*)' },
};

/**
 * The size of the disks in the images, as guests see them. (What the public service counts is not documented. This is known as soon as a
 * header is read, and is not what is stored: images share that.) An import counts as nothing until then (import/take-size.ts).
 */
export const imagesSizeQuota: Quota = {
  id: 'compute.images.size',
  defaultLimit: 1024 * GiB,
  usage: { table: 'images', aggregate: 'coalesce(sum(images.size), 0)' },
};

/** Optimized images. Each keeps its layer ready on the serving machines, so by default there are none (facts, section 1.7). */
export const pooledImagesQuota: Quota = {
  id: 'compute.diskPools.count',
  defaultLimit: 0,
  usage: { table: 'images', aggregate: 'count(*) filter (where images.pooled)' },
};

/** What a new image takes. `size` 0: not known yet. */
export const demandsOfImage = ({ pooled, size }: { pooled: boolean; size: number }): Demand[] => [
  { quota: imagesCountQuota, amount: 1 },
  { quota: imagesSizeQuota, amount: size },
  { quota: pooledImagesQuota, amount: pooled ? 1 : 0 },
];
