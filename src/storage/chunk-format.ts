// The object that holds a chunk, version 1. Numbers are little-endian. What it must do: a cold read of a few bytes costs the header
// and one block; any flipped bit is noticed before a byte is answered; the address does not depend on how blocks are packed.
//
//   offset   bytes
//        0       8   "obrzchnk"
//        8       2   version, 1
//       10       2   flags, 0
//       12       1   hash (hash-algorithm.ts)
//       13       1   log2 of the block's size, 16
//       14       1   log2 of the chunk's size, 22
//       15       1   0
//       16       4   payload length: the object's size less 4096
//       20      44   0
//       64    2560   64 entries, one per block: hash of the guest bytes (32), stored length (4), encoding (1), 0 (3)
//     2624    1440   0
//     4064      32   hash of bytes 0 to 4063
//     4096       …   the stored blocks in order, without gaps; a block of zeros stores nothing
//
//   leaf    = hash(64 KiB of guest bytes)
//   address = hash("obraz chunk v1\0" ‖ 64 leaves)
//
// The hash at 4064 guards what the address does not cover. A raw block is stored as it is, so that a chunk of raw blocks keeps them
// at multiples of 4096, as direct writes need.
import { constants, zstdDecompressSync } from 'node:zlib';
import type { ChunkAddress } from './address.ts';
import { Damage } from './damage.ts';
import { type HashAlgorithm, hashAlgorithms } from './hash-algorithm.ts';
import { blockBytes, blocksPerChunk, chunkBytes } from './sizes.ts';

export const headerBytes = 4096;

export const encoding = { zero: 0, raw: 1, zstd: 2 } as const;

const magic = Buffer.from('obrzchnk', 'latin1');
const version = 1;
const tableOffset = 64;
const entryBytes = 40;
const checkOffset = headerBytes - 32;
const addressDomain = Buffer.from('obraz chunk v1\0', 'latin1');

export const zeroBlock = new Uint8Array(blockBytes);

/** One block as it is stored. */
export interface StoredBlock {
  leaf: Uint8Array;
  storedBytes: number;
  encoding: number;
}

/** Fills `header` (4096 bytes). */
export function writeChunkHeader(header: Uint8Array, algorithm: HashAlgorithm, blocks: readonly StoredBlock[]): void {
  const view = Buffer.from(header.buffer, header.byteOffset, headerBytes);
  view.fill(0);
  magic.copy(view);
  view.writeUInt16LE(version, 8);
  view[12] = algorithm.id;
  view[13] = Math.log2(blockBytes);
  view[14] = Math.log2(chunkBytes);
  let payloadBytes = 0;
  for (const [index, block] of blocks.entries()) {
    const entry = tableOffset + index * entryBytes;
    view.set(block.leaf, entry);
    view.writeUInt32LE(block.storedBytes, entry + 32);
    view[entry + 36] = block.encoding;
    payloadBytes += block.storedBytes;
  }
  view.writeUInt32LE(payloadBytes, 16);
  view.set(algorithm.digest(view.subarray(0, checkOffset)), checkOffset);
}

/** @param leaves 64 leaf hashes, one after another. */
export function chunkAddress(algorithm: HashAlgorithm, leaves: Uint8Array): ChunkAddress {
  return algorithm.digest(Buffer.concat([addressDomain, leaves])).toString('hex') as ChunkAddress;
}

export interface ChunkHeader {
  readonly payloadBytes: number;
  readonly leaves: Uint8Array;
  readonly encodings: Uint8Array;
  /** Where block i begins in the object; the entry after the last one is the object's size. */
  readonly offsets: Uint32Array;
}

/**
 * Reads a header and proves that its leaves belong to `address`.
 * @throws Damage when a bit of it is wrong; Error when it is whole, but of a version or hash that this release does not know.
 */
export function parseChunkHeader(bytes: Uint8Array, address: ChunkAddress, algorithm: HashAlgorithm): ChunkHeader {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.length !== headerBytes || !view.subarray(0, 8).equals(magic)) throw new Damage('it has no chunk header');
  const check = view.subarray(checkOffset);
  if (!algorithm.digest(view.subarray(0, checkOffset)).equals(check)) {
    // A header that another hash confirms is whole.
    const other = hashAlgorithms.find(({ digest }) => digest(view.subarray(0, checkOffset)).equals(check));
    if (other === undefined) throw new Damage('its header does not match its own hash');
    throw new Error(`chunk ${address} is hashed with ${other.name}; this store is made with ${algorithm.name}`);
  }
  const known =
    view.readUInt16LE(8) === version &&
    view.readUInt16LE(10) === 0 &&
    view[12] === algorithm.id &&
    view[13] === Math.log2(blockBytes) &&
    view[14] === Math.log2(chunkBytes);
  if (!known) throw new Error(`chunk ${address} is of a version that this release does not know`);
  return parseTable(view, address, algorithm);
}

function parseTable(view: Buffer, address: ChunkAddress, algorithm: HashAlgorithm): ChunkHeader {
  const leaves = Buffer.allocUnsafe(blocksPerChunk * 32);
  const encodings = new Uint8Array(blocksPerChunk);
  const offsets = new Uint32Array(blocksPerChunk + 1);
  offsets[0] = headerBytes;
  for (let index = 0; index < blocksPerChunk; index += 1) {
    const entry = tableOffset + index * entryBytes;
    view.copy(leaves, index * 32, entry, entry + 32);
    const storedBytes = view.readUInt32LE(entry + 32);
    encodings[index] = view[entry + 36]!;
    if (!isPlausible(encodings[index]!, storedBytes)) throw new Damage(`its header is wrong about block ${index}`);
    offsets[index + 1] = offsets[index]! + storedBytes;
  }
  const payloadBytes = view.readUInt32LE(16);
  if (offsets[blocksPerChunk] !== headerBytes + payloadBytes) throw new Damage('its header is wrong about its length');
  if (chunkAddress(algorithm, leaves) !== address) throw new Damage('it holds another chunk');
  return { payloadBytes, leaves, encodings, offsets };
}

function isPlausible(kind: number, storedBytes: number): boolean {
  switch (kind) {
    case encoding.zero:
      return storedBytes === 0;
    case encoding.raw:
      return storedBytes === blockBytes;
    case encoding.zstd:
      return storedBytes > 0 && storedBytes < blockBytes;
    default:
      return false;
  }
}

/** Guest bytes of block `index` from its stored bytes, verified; may be a view of `stored`. @throws Damage when they are not what the leaf says. */
export function decodeBlock(header: ChunkHeader, index: number, stored: Uint8Array, algorithm: HashAlgorithm): Uint8Array {
  const bytes = unpack(header.encodings[index]!, stored, index);
  const leaf = header.leaves.subarray(index * 32, (index + 1) * 32);
  if (bytes.length !== blockBytes || !algorithm.digest(bytes).equals(leaf))
    throw new Damage(`block ${index} does not match its hash`);
  return bytes;
}

function unpack(kind: number, stored: Uint8Array, index: number): Uint8Array {
  if (kind === encoding.zero) return zeroBlock;
  if (kind === encoding.raw) return stored;
  try {
    const params = { [constants.ZSTD_d_windowLogMax]: 17 };
    return zstdDecompressSync(stored, { maxOutputLength: blockBytes, params });
  } catch {
    throw new Damage(`block ${index} cannot be unpacked`);
  }
}
