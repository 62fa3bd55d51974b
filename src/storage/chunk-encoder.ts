// Guest bytes → the object that holds them. Pure and synchronous, about 3 ms of hashing per chunk: for worker threads.
import { constants, zstdCompressSync } from 'node:zlib';
import type { ChunkAddress } from './address.ts';
import { type StoredBlock, chunkAddress, encoding, headerBytes, writeChunkHeader, zeroBlock } from './chunk-format.ts';
import { type HashAlgorithm, sha256 } from './hash-algorithm.ts';
import { allocatePageAligned } from './page-aligned.ts';
import { blockBytes, blocksPerChunk, chunkBytes } from './sizes.ts';

export interface EncodedChunk {
  readonly address: ChunkAddress;
  /** The object, in parts to be concatenated: views of the data that was encoded, so valid until that is written to again. */
  readonly parts: readonly Uint8Array[];
}

export interface EncodeOptions {
  hash?: HashAlgorithm;
  /** How blocks that shrink by an eighth or more are packed. Packing was measured slower than writing, so the default is none. */
  packing?: Packing | undefined;
  /** Per block its hash, where it is known: the block's bytes were verified by it and not changed since. It is not hashed again. */
  leaves?: readonly (Uint8Array | undefined)[] | undefined;
}

export type Packing = 'none' | 'zstd';

/**
 * Memory for one chunk: fill `data`, encode, put; free for the next chunk when the put has taken its bytes (PutOptions.onTaken), or has
 * settled. Data in a ChunkBuffer goes to disk without another copy (2.5 times less CPU than through the page cache,
 * docs/decisions/003-layout.md). Cannot be transferred between threads.
 */
export class ChunkBuffer {
  /** 4 MiB of guest bytes. */
  readonly data: Uint8Array;
  /** Room for the header, right before the data. */
  readonly header: Uint8Array;
  readonly whole: Uint8Array;

  constructor() {
    this.whole = allocatePageAligned(headerBytes + chunkBytes);
    this.header = this.whole.subarray(0, headerBytes);
    this.data = this.whole.subarray(headerBytes);
  }
}

/**
 * The object that holds 4 MiB of guest bytes (pad the end of a disk with zeros), or undefined when all of them are zero: such a chunk
 * is never stored.
 */
export function encodeChunk(source: Uint8Array | ChunkBuffer, options: EncodeOptions = {}): EncodedChunk | undefined {
  const { hash = sha256, packing = 'none', leaves: knownLeaves } = options;
  const data = source instanceof ChunkBuffer ? source.data : source;
  if (data.length !== chunkBytes) throw new RangeError(`a chunk holds ${chunkBytes} bytes, not ${data.length}`);
  const zeroLeaf = zeroLeafOf(hash);
  const blocks: StoredBlock[] = [];
  const leaves = Buffer.allocUnsafe(blocksPerChunk * 32);
  const payload: Uint8Array[] = [];
  let rawStart = -1;
  const endRaw = (end: number) => {
    if (rawStart >= 0) payload.push(data.subarray(rawStart, end));
    rawStart = -1;
  };
  for (let index = 0; index < blocksPerChunk; index += 1) {
    const start = index * blockBytes;
    const bytes = data.subarray(start, start + blockBytes);
    const known = knownLeaves?.[index];
    const isZero = known === undefined ? Buffer.compare(bytes, zeroBlock) === 0 : zeroLeaf.equals(known);
    const leaf = known ?? (isZero ? zeroLeaf : hash.digest(bytes));
    leaves.set(leaf, index * 32);
    const packed = isZero || packing === 'none' ? undefined : pack(bytes);
    if (isZero || packed !== undefined) endRaw(start);
    else if (rawStart < 0) rawStart = start;
    if (packed !== undefined) payload.push(packed);
    const storedBytes = isZero ? 0 : (packed?.length ?? blockBytes);
    blocks.push({ leaf, storedBytes, encoding: isZero ? encoding.zero : packed === undefined ? encoding.raw : encoding.zstd });
  }
  endRaw(chunkBytes);
  if (payload.length === 0) return undefined;
  const header = source instanceof ChunkBuffer ? source.header : new Uint8Array(headerBytes);
  writeChunkHeader(header, hash, blocks);
  const isWhole = source instanceof ChunkBuffer && payload[0]!.length === chunkBytes;
  return { address: chunkAddress(hash, leaves), parts: isWhole ? [source.whole] : [header, ...payload] };
}

const zeroLeaves = new Map<HashAlgorithm, Buffer>();

function zeroLeafOf(hash: HashAlgorithm): Buffer {
  let leaf = zeroLeaves.get(hash);
  if (leaf === undefined) {
    leaf = hash.digest(zeroBlock);
    zeroLeaves.set(hash, leaf);
  }
  return leaf;
}

function pack(bytes: Uint8Array): Uint8Array | undefined {
  const packed = zstdCompressSync(bytes, { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
  return packed.length <= blockBytes - blockBytes / 8 ? packed : undefined;
}
