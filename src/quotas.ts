// Every quota of the service, in the order of the list. (src/quotas knows no resource, so the list stands here.)
import { pooledImagesQuota } from './images/image-quotas.ts';
import type { Quota } from './quotas/quota.ts';

export const quotas: readonly Quota[] = [pooledImagesQuota];
