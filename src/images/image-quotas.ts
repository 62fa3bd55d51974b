// The quotas that images count against.
import { query } from '../db/bound-query.ts';
import type { Quota } from '../quotas/quota.ts';

/**
 * Optimized images. Each keeps its layer ready on the serving machines, so by default there are none (facts, section 1.7).
 * One that is being made or deleted counts: its row is there.
 */
export const pooledImagesQuota: Quota = {
  id: 'compute.diskPools.count',
  defaultLimit: 0,
  async usage(em, cloudId) {
    const [row] = await query<{ usage: number }>(
      em,
      `select count(*)::int as usage from images join folders on folders.id = images.folder_id
       where images.pooled and folders.cloud_id = $1`,
      [cloudId],
    );
    return row!.usage;
  },
};
