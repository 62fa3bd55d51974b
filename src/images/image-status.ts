// The life of an image. Nothing else assigns a status.
import { failedPrecondition } from '../platform/errors.ts';
import type { Image } from './image.entity.ts';

export type ImageStatus = 'CREATING' | 'READY' | 'ERROR' | 'DELETING';

/** Rows of failed and cancelled creates are removed, so ERROR is never entered; clients know the value. */
const next: Record<ImageStatus, readonly ImageStatus[]> = {
  CREATING: ['READY', 'DELETING'],
  READY: ['DELETING'],
  ERROR: ['DELETING'],
  DELETING: [],
};

/** @throws DomainError FAILED_PRECONDITION when the image is in no state to become `status`. */
export function changeStatus(image: Image, status: ImageStatus): void {
  if (!next[image.status].includes(status))
    throw failedPrecondition(`Image ${image.id} is ${image.status}: it cannot become ${status}`);
  image.status = status;
}

/** @throws DomainError FAILED_PRECONDITION unless the image can be changed, shared and used as a source. */
export function assertReady(image: Image): void {
  if (image.status !== 'READY') {
    throw failedPrecondition(`Image ${image.id} is ${image.status}: wait until it is READY`);
  }
}
