// What layers hold, bytes, a multiple of 4 MiB: read off their pages alone. Null stands for a layer without chunks: zeros.
import { type PageAddress, parsePageAddress } from './address.ts';
import type { Layers } from './layers.ts';
import { chunkBytes } from './sizes.ts';

/** What the non-zero chunks of a layer hold. @throws as Layers.open */
export async function storedBytes(layers: Layers, root: string | null, signal?: AbortSignal): Promise<number> {
  if (root === null) return 0;
  return (await layers.open(parsePageAddress(root), signal)).chunkCount * chunkBytes;
}

/** What `root` holds in chunks that are not zeros and not what stands there in `before`. @throws as Layers.open */
export async function addedBytes(
  layers: Layers,
  before: string | null,
  root: string | null,
  signal?: AbortSignal,
): Promise<number> {
  if (root === null || root === before) return 0;
  return (await layers.countChanged(parseRoot(before), parsePageAddress(root), signal)) * chunkBytes;
}

const parseRoot = (root: string | null): PageAddress | undefined => (root === null ? undefined : parsePageAddress(root));
