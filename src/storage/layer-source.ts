// The guest's view of a layer: verified bytes at any offset, zeros in its holes.
import { type ByteSource, assertRange } from '../platform/byte-source.ts';
import { Semaphore } from '../platform/semaphore.ts';
import type { ChunkStore } from './chunk-store.ts';
import type { Layer } from './layers.ts';
import { chunkBytes, maxLayerChunks } from './sizes.ts';
import { settleAll } from '../platform/until-aborted.ts';

/** Chunks that one read fetches from at once. */
const chunksAtOnce = 4;

/**
 * @param sizeBytes the guest's size; what the layer holds beyond it is not readable.
 * Reads throw DomainError DATA_LOSS where stored data is damaged, TransientError when the store is away.
 */
export function layerSource(layer: Layer, chunks: ChunkStore, sizeBytes: number): ByteSource {
  assertRange(maxLayerChunks * chunkBytes, 0, sizeBytes);
  return {
    sizeBytes,
    async read(target, offset, signal) {
      assertRange(sizeBytes, offset, target.length);
      const reads = new Semaphore(chunksAtOnce);
      await settleAll(piecesOf(offset, target.length).map((piece) => readPiece(piece, reads, target, signal)));
    },
    async [Symbol.asyncDispose]() {},
  };

  async function readPiece(piece: Piece, reads: Semaphore, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    const release = await reads.acquire(signal);
    try {
      const part = target.subarray(piece.at, piece.at + piece.length);
      const address = await layer.lookup(piece.index, signal);
      if (address === undefined) part.fill(0);
      else await chunks.read(address, part, piece.start, signal);
    } finally {
      release();
    }
  }
}

/** What a read takes from one chunk: bytes [start, start + length) of chunk `index`, to go to `at` in the target. */
interface Piece {
  index: number;
  start: number;
  length: number;
  at: number;
}

function piecesOf(offset: number, length: number): Piece[] {
  const pieces: Piece[] = [];
  for (let at = 0; at < length; at += pieces.at(-1)!.length) {
    const start = (offset + at) % chunkBytes;
    pieces.push({ index: Math.floor((offset + at) / chunkBytes), start, length: Math.min(chunkBytes - start, length - at), at });
  }
  return pieces;
}
