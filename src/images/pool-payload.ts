import type { JobOrder } from '../operations/operations.ts';

/** What the job that makes an image optimized is given. The layer is pinned by the job until the image's row holds it. */
export interface PoolPayload {
  imageId: string;
  /** Root of the layer that the image is to have. */
  root: string;
}

export const poolJobKind = 'image.pool';

/** Verifies the layer; then the image is READY. */
export function poolOrder(imageId: string, root: string): JobOrder {
  const payload: PoolPayload = { imageId, root };
  return { kind: poolJobKind, payload, pinnedRoots: [root] };
}
