// A RAW image is its own bytes. A file that does not end on a sector is padded with zeros up to the next one: guests see whole
// sectors, and qemu-img does the same.
import { assertRange } from '../../platform/byte-source.ts';
import type { DiskImage, OpenLimits } from '../disk-image.ts';
import { assertGuestSize } from '../refusal.ts';

const sectorBytes = 512;

/** @throws DomainError INVALID_ARGUMENT when the file is larger than the limit. */
export function openRaw(fileBytes: number, limits: OpenLimits): DiskImage {
  const padded = Math.ceil(fileBytes / sectorBytes) * sectorBytes;
  const sizeBytes = assertGuestSize('RAW', 'the size of the file', BigInt(padded), limits.maxSizeBytes);
  return {
    format: 'raw',
    sizeBytes,
    async *extents(offset, length) {
      assertRange(sizeBytes, offset, length);
      const end = offset + length;
      const dataEnd = Math.min(end, fileBytes);
      if (offset < dataEnd) yield { kind: 'raw', offset, length: dataEnd - offset, at: offset };
      const zerosAt = Math.max(offset, dataEnd);
      if (zerosAt < end) yield { kind: 'zero', offset: zerosAt, length: end - zerosAt };
    },
  };
}
