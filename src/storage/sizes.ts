// The sizes that the format of layout 1 is made of. Written in the format file, and the same in every store of that layout.
/** A chunk's guest bytes; the last chunk of a disk is padded with zeros. */
export const chunkBytes = 4 * 1024 * 1024;

/** The unit that is hashed, packed and verified on its own. */
export const blockBytes = 64 * 1024;

export const blocksPerChunk = chunkBytes / blockBytes;

/** Chunks that one leaf page covers: 4 GiB of guest bytes. */
export const chunksPerLeaf = 1024;

/** Chunks that a layer may cover: 32 TiB of guest bytes. */
export const maxLayerChunks = 2 ** 23;

export const maxLeaves = maxLayerChunks / chunksPerLeaf;

/** @throws RangeError for what is no index of a chunk in a layer. */
export function assertChunkIndex(index: number): void {
  if (!Number.isSafeInteger(index) || index < 0 || index >= maxLayerChunks)
    throw new RangeError(`a layer has chunks 0 to ${maxLayerChunks - 1}, not ${index}`);
}
