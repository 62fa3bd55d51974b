/** What the job that imports an image is given. It holds the URI with its signature, and is deleted with the job. */
export interface ImportPayload {
  imageId: string;
  uri: string;
  /** min_disk_size as requested, bytes; 0 when it was not given. */
  minDiskSize: number;
  /** Everything that was stored is read again before READY. */
  pooled: boolean;
}

export const importJobKind = 'image.import';
