// Sizes of images, bytes. Source: every size that the public documentation prints is a multiple of 4 MiB.
import { DomainError } from '../platform/errors.ts';

const stepBytes = 4 * 1024 * 1024;

/** Largest disk that an image can hold: the bound of CreateImageRequest.min_disk_size. */
export const maxImageBytes = 4 * 1024 ** 4;

export const roundUpToStep = (bytes: number): number => Math.max(stepBytes, Math.ceil(bytes / stepBytes) * stepBytes);

/**
 * The min_disk_size of an image of `sizeBytes`. `requestedBytes` 0 means "not given": then `fallbackBytes`, at least the size itself.
 * @throws DomainError INVALID_ARGUMENT with the documented text when the request is below the image's size.
 */
export function resolveMinDiskSize(requestedBytes: number, sizeBytes: number, fallbackBytes = 0): number {
  const least = roundUpToStep(sizeBytes);
  if (requestedBytes === 0) return Math.max(least, fallbackBytes);
  if (requestedBytes < least) {
    const text = `Minimal disk size should be greater or equal than ${least}`;
    throw new DomainError('INVALID_ARGUMENT', text, [
      { kind: 'badRequest', violations: [{ field: 'min_disk_size', description: text }] },
    ]);
  }
  return requestedBytes;
}
