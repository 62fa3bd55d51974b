// The one way to open a disk image: by its content (recognise.ts), with the decoder of its format.
import type { DiskImage, OpenDiskImage } from './disk-image.ts';
import { edgedSource, readEdges } from './file-edges.ts';
import { openQcow2 } from './qcow2/index.ts';
import { openRaw } from './raw/index.ts';
import { recogniseFormat } from './recognise.ts';
import { openVhd } from './vhd/index.ts';
import { openVmdk } from './vmdk/index.ts';

/**
 * @throws DomainError INVALID_ARGUMENT naming what is wrong and what helps, when the file is not an image that can be read whole and
 *   alone: a foreign container, two formats at once, an overlay, encrypted, corrupt, beyond a limit; and what `source` throws.
 */
export const openDiskImage: OpenDiskImage = async (source, limits, signal): Promise<DiskImage> => {
  const edges = await readEdges(source, signal);
  const format = recogniseFormat(edges.head, edges.tail, edges.sizeBytes);
  const edged = edgedSource(source, edges);
  switch (format) {
    case 'raw':
      return openRaw(edges.sizeBytes, limits);
    case 'qcow2':
      return openQcow2(edged, limits, signal);
    case 'vmdk':
      return openVmdk(edged, limits, signal);
    case 'vhd':
      return openVhd(edged, limits, signal);
  }
};
