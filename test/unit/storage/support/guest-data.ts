// Guest bytes for tests: cheap to make, and different wherever they should be.
import { createHash } from 'node:crypto';
import { blockBytes, blocksPerChunk, chunkBytes } from '../../../../src/storage/sizes.ts';

/** A block by its kind: 0 zeros, 1 bytes that do not pack, 2 bytes that pack well. */
export type BlockKind = 0 | 1 | 2;

export function block(kind: BlockKind, seed: number): Uint8Array {
  if (kind === 0) return new Uint8Array(blockBytes);
  if (kind === 2) return Buffer.alloc(blockBytes, `line ${seed} of a text that is repeated\n`);
  // 16 bytes that depend on the seed, then a fixed mix of them: not compressible within a block by zstd's fast level.
  const bytes = Buffer.alloc(blockBytes);
  let part = createHash('sha512').update(`block ${seed}`).digest();
  for (let offset = 0; offset < blockBytes; offset += part.length) {
    part.copy(bytes, offset);
    part = createHash('sha512').update(part).digest();
  }
  return bytes;
}

/** A chunk of blocks of these kinds; blocks that are not named are zeros. */
export function chunk(kinds: readonly BlockKind[], seed = 0): Uint8Array {
  const bytes = new Uint8Array(chunkBytes);
  for (const [index, kind] of kinds.slice(0, blocksPerChunk).entries())
    if (kind !== 0) bytes.set(block(kind, seed * 100 + index), index * blockBytes);
  return bytes;
}
