import type { DiskContents } from '../disks/disk-contents.ts';
import type { Operations } from '../operations/operations.ts';
import type { UrlPolicy } from '../sources/url-policy.ts';
import type { Layers } from '../storage/layers.ts';
import type { FindLatestImage } from './find-latest.ts';
import type { Image } from './image.entity.ts';

/** What the methods of ImageService are made of. */
export interface ImageParts {
  operations: Operations;
  /** Reads an image by id; reads of the same moment share one query. */
  findImage: (id: string) => Promise<Image | undefined>;
  /** The newest READY image of a family. */
  findLatestImage: FindLatestImage;
  /** Where imports may go; asked at the call for what can be known without looking a name up. */
  urlPolicy: UrlPolicy;
  /** What was written to disks and lies in no layer yet. */
  contents: DiskContents;
  layers: Layers;
}
