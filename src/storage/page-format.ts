// The pages of a layer's tree, version 1. Numbers are little-endian. A layer maps the index of a chunk to its address; chunks of zeros
// are absent. The same map always gives the same pages, so equal layers have equal roots, and parts that did not change are shared.
//
//   leaf page, of 1024 chunks          root page
//   0     8  "obrzleaf"                0     8  "obrzroot"
//   8     2  version, 1                8     2  version, 1
//   10    2  0                         10    2  0
//   12    4  chunks present, n         12    4  leaves, n
//   16  128  presence, bit i of byte   16    8  chunks present in all of them
//            i >> 3 is 1 << (i & 7)    24    8  0
//   144 32n  addresses, ascending      32  40n  leaf index (4), chunks present (4), address of the leaf (32); ascending
//
//   address = hash("obraz page v1\0" ‖ page)
//
// A leaf does not say where it lies, so that equal stretches of two disks share it. Nothing follows the last field. No page is empty,
// but the root of an empty layer.
import type { ChunkAddress, PageAddress } from './address.ts';
import { Damage } from './damage.ts';
import type { HashAlgorithm } from './hash-algorithm.ts';
import { chunksPerLeaf, maxLeaves } from './sizes.ts';

const leafMagic = Buffer.from('obrzleaf', 'latin1');
const rootMagic = Buffer.from('obrzroot', 'latin1');
const version = 1;
const bitmapOffset = 16;
const bitmapBytes = chunksPerLeaf / 8;
const leafTableOffset = bitmapOffset + bitmapBytes;
const rootTableOffset = 32;
const rootEntryBytes = 40;
const addressDomain = Buffer.from('obraz page v1\0', 'latin1');

export const leafPageBytes = (count: number): number => leafTableOffset + 32 * count;
export const maxRootPageBytes = rootTableOffset + rootEntryBytes * maxLeaves;

export const pageAddress = (algorithm: HashAlgorithm, page: Uint8Array): PageAddress =>
  algorithm.digest(Buffer.concat([addressDomain, page])).toString('hex') as PageAddress;

/** @param entries slots 0 to 1023, in any order. */
export function encodeLeafPage(entries: ReadonlyMap<number, ChunkAddress>): Uint8Array {
  const page = Buffer.alloc(leafPageBytes(entries.size));
  leafMagic.copy(page);
  page.writeUInt16LE(version, 8);
  page.writeUInt32LE(entries.size, 12);
  let position = leafTableOffset;
  for (const slot of [...entries.keys()].sort((a, b) => a - b)) {
    page[bitmapOffset + (slot >> 3)]! |= 1 << (slot & 7);
    position += page.write(entries.get(slot)!, position, 'hex');
  }
  return page;
}

/** The chunks of one leaf, read in place. */
export class LeafPage {
  readonly bytes: Buffer;
  readonly count: number;
  /** Chunks present before each byte of the bitmap. */
  readonly #ranks = new Uint16Array(bitmapBytes);

  /** @throws Damage */
  constructor(page: Uint8Array) {
    this.bytes = Buffer.from(page.buffer, page.byteOffset, page.byteLength);
    assertPage(this.bytes, leafMagic, leafTableOffset);
    this.count = this.bytes.readUInt32LE(12);
    if (this.bytes.length !== leafPageBytes(this.count)) throw new Damage('its length does not fit its chunks');
    let present = 0;
    for (let index = 0; index < bitmapBytes; index += 1) {
      this.#ranks[index] = present;
      present += bitsSet(this.bytes[bitmapOffset + index]!);
    }
    if (present !== this.count || present === 0) throw new Damage('its bitmap does not fit its chunks');
  }

  lookup(slot: number): ChunkAddress | undefined {
    const byte = this.bytes[bitmapOffset + (slot >> 3)]!;
    const bit = 1 << (slot & 7);
    if ((byte & bit) === 0) return undefined;
    const rank = this.#ranks[slot >> 3]! + bitsSet(byte & (bit - 1));
    const start = leafTableOffset + 32 * rank;
    return this.bytes.toString('hex', start, start + 32) as ChunkAddress;
  }

  *entries(fromSlot = 0): Generator<[slot: number, address: ChunkAddress]> {
    for (let slot = fromSlot; slot < chunksPerLeaf; slot += 1) {
      const address = this.lookup(slot);
      if (address !== undefined) yield [slot, address];
    }
  }
}

function bitsSet(byte: number): number {
  let count = 0;
  for (let rest = byte; rest !== 0; rest &= rest - 1) count += 1;
  return count;
}

export interface LeafEntry {
  address: PageAddress;
  /** Chunks present in the leaf. */
  count: number;
}

/** @param leaves by leaf index, in any order. */
export function encodeRootPage(leaves: ReadonlyMap<number, LeafEntry>): Uint8Array {
  const page = Buffer.alloc(rootTableOffset + rootEntryBytes * leaves.size);
  rootMagic.copy(page);
  page.writeUInt16LE(version, 8);
  page.writeUInt32LE(leaves.size, 12);
  let total = 0;
  let position = rootTableOffset;
  for (const index of [...leaves.keys()].sort((a, b) => a - b)) {
    const { address, count } = leaves.get(index)!;
    page.writeUInt32LE(index, position);
    page.writeUInt32LE(count, position + 4);
    page.write(address, position + 8, 'hex');
    total += count;
    position += rootEntryBytes;
  }
  page.writeBigUInt64LE(BigInt(total), 16);
  return page;
}

export interface RootPage {
  readonly chunkCount: number;
  /** By leaf index, ascending. */
  readonly leaves: ReadonlyMap<number, LeafEntry>;
  readonly sizeBytes: number;
}

/** @throws Damage */
export function parseRootPage(bytes: Uint8Array): RootPage {
  const page = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  assertPage(page, rootMagic, rootTableOffset);
  const length = page.readUInt32LE(12);
  if (length > maxLeaves || page.length !== rootTableOffset + rootEntryBytes * length)
    throw new Damage('its length does not fit its leaves');
  const leaves = new Map<number, LeafEntry>();
  let chunkCount = 0;
  let previous = -1;
  for (let position = rootTableOffset; position < page.length; position += rootEntryBytes) {
    const index = page.readUInt32LE(position);
    const count = page.readUInt32LE(position + 4);
    if (index <= previous || index >= maxLeaves || count < 1 || count > chunksPerLeaf)
      throw new Damage('its leaves are not in order');
    leaves.set(index, { count, address: page.toString('hex', position + 8, position + 40) as PageAddress });
    chunkCount += count;
    previous = index;
  }
  if (page.readBigUInt64LE(16) !== BigInt(chunkCount)) throw new Damage('its total does not fit its leaves');
  return { chunkCount, leaves, sizeBytes: page.length };
}

function assertPage(page: Buffer, magic: Buffer, smallestBytes: number): void {
  if (page.length < smallestBytes || !page.subarray(0, 8).equals(magic)) throw new Damage('it is no page of that kind');
  if (page.readUInt32LE(8) !== version) throw new Error('a layer has pages of a version that this release does not know');
}
