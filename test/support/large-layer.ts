// A layer as large as an image can be, over few stored chunks: for tests and benches of what must not depend on size.
import type { ChunkAddress, PageAddress } from '../../src/storage/address.ts';
import type { Layers } from '../../src/storage/layers.ts';
import { chunkBytes } from '../../src/storage/sizes.ts';

/** The root of a layer of `sizeBytes` whose every chunk is one of `chunks`, in turn; no two neighbouring leaves need be equal. */
export async function buildLargeLayer(
  layers: Layers,
  chunks: readonly ChunkAddress[],
  sizeBytes: number,
): Promise<{ root: PageAddress; entries: number }> {
  const builder = await layers.build();
  const entries = Math.ceil(sizeBytes / chunkBytes);
  for (let index = 0; index < entries; index += 1) {
    builder.set(index, chunks[index % chunks.length]);
    if (index % 1024 === 1023) await builder.drained();
  }
  return { root: await builder.flush(), entries };
}
