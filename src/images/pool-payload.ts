/** What the job that makes an image optimized is given. The layer is pinned by the job until the image's row holds it. */
export interface PoolPayload {
  imageId: string;
  /** Root of the layer that the image is to have. */
  root: string;
}

export const poolJobKind = 'image.pool';
