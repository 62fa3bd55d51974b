// The footer of a VHD and the header of a dynamic one: pure parse and validation. Source of all facts: Microsoft's "Virtual Hard Disk
// Image Format Specification" 1.0 (October 11, 2006), sections "Hard Disk Footer Format" and "Dynamic Disk Header Format"; the size
// that counts is qemu's rule (block/vpc.c). Big endian; offsets and sizes in bytes.
import { assertGuestSize, convertRemedy, damagedRemedy, type Refusal, refuse } from '../refusal.ts';

export interface VhdFooter {
  kind: 'fixed' | 'dynamic';
  sizeBytes: number;
  /** Where the dynamic disk header is; of no meaning for fixed disks. */
  dynamicHeaderAt: number;
}

export interface VhdDynamicHeader {
  tableAt: number;
  /** Entries of the block allocation table that cover the disk. */
  blocks: number;
  blockBytes: number;
  /** Sector bitmap before each block's data. */
  bitmapBytes: number;
}

export const vhdFooterBytes = 512;
export const vhdDynamicHeaderBytes = 1024;

const majorVersion = 1;
const kinds: Record<number, VhdFooter['kind'] | undefined> = { 2: 'fixed', 3: 'dynamic' };
const differencing = 4;
const maxBlockBytes = 2 ** 28;

export const noVhd = (refusal: Omit<Refusal, 'format' | 'remedy'> & { remedy?: string }): Error =>
  refuse({ format: 'VHD', remedy: damagedRemedy, ...refusal });

/** One's complement of the sum of all bytes but the checksum's own. */
function assertChecksum(name: string, bytes: Uint8Array, at: number): void {
  const stored = new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(at);
  let sum = 0;
  for (const [index, byte] of bytes.entries()) if (index < at || index >= at + 4) sum += byte;
  const expected = ~sum >>> 0;
  if (stored !== expected)
    throw noVhd({
      field: `the checksum of the ${name}`,
      value: `0x${stored.toString(16)}`,
      bound: `must be 0x${expected.toString(16)}`,
    });
}

/**
 * `bytes` are the footer or its copy at the start of the file.
 * @throws DomainError INVALID_ARGUMENT naming the first field that is wrong or that asks for what is not supported.
 */
export function parseVhdFooter(bytes: Uint8Array, { maxSizeBytes }: { maxSizeBytes: number }): VhdFooter {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  assertChecksum('footer', bytes, 64);
  const version = view.getUint32(12);
  if (version >>> 16 !== majorVersion)
    throw noVhd({
      field: 'File Format Version',
      value: `0x${version.toString(16)}`,
      bound: 'must be 1.x',
      remedy: convertRemedy('vpc'),
    });
  const type = view.getUint32(60);
  if (type === differencing)
    throw noVhd({
      field: 'Disk Type',
      value: type,
      bound: 'must be 2 (fixed) or 3 (dynamic): a differencing disk is nothing without its parent',
      remedy: 'Merge it into its parent first, or convert the chain: Convert-VHD -DestinationPath <file>.vhd -VHDType Dynamic',
    });
  const kind = kinds[type];
  if (kind === undefined) throw noVhd({ field: 'Disk Type', value: type, bound: 'must be 2 (fixed) or 3 (dynamic)' });
  const sizeBytes = assertGuestSize('VHD', 'Current Size', guestSize(view), maxSizeBytes);
  if (sizeBytes % 512 !== 0) throw noVhd({ field: 'Current Size', value: sizeBytes, bound: 'must be a multiple of 512' });
  return { kind, sizeBytes, dynamicHeaderAt: kind === 'dynamic' ? dynamicHeaderAt(view) : 0 };
}

/**
 * Virtual PC shows the guest what the geometry has room for; all others show the current size. A geometry at its maximum has no room
 * for the size: then the size counts, whoever wrote it.
 */
function guestSize(view: DataView): bigint {
  const creator = String.fromCharCode(view.getUint8(28), view.getUint8(29), view.getUint8(30), view.getUint8(31));
  const cylinders = view.getUint16(56);
  const heads = view.getUint8(58);
  const sectors = view.getUint8(59);
  const isMaximum = cylinders === 65_535 && heads === 16 && sectors === 255;
  const byGeometry = (creator === 'vpc ' || creator === 'qemu') && !isMaximum;
  return byGeometry ? BigInt(cylinders * heads * sectors) * 512n : view.getBigUint64(48);
}

function dynamicHeaderAt(view: DataView): number {
  const at = view.getBigUint64(16);
  if (at < BigInt(vhdFooterBytes) || at % 512n !== 0n || at > BigInt(Number.MAX_SAFE_INTEGER))
    throw noVhd({ field: 'Data Offset', value: at, bound: 'must be a multiple of 512 after the footer' });
  return Number(at);
}

/** @throws DomainError INVALID_ARGUMENT naming the first field that is wrong. */
export function parseVhdDynamicHeader(bytes: Uint8Array, sizeBytes: number, fileBytes: number): VhdDynamicHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const cookie = Buffer.from(bytes.subarray(0, 8)).toString('latin1');
  if (cookie !== 'cxsparse')
    throw noVhd({ field: 'the cookie of the dynamic disk header', value: cookie, bound: 'must be "cxsparse"' });
  assertChecksum('dynamic disk header', bytes, 36);
  const version = view.getUint32(24);
  if (version >>> 16 !== majorVersion)
    throw noVhd({
      field: 'Header Version',
      value: `0x${version.toString(16)}`,
      bound: 'must be 1.x',
      remedy: convertRemedy('vpc'),
    });
  const blockBytes = view.getUint32(32);
  if (blockBytes < 512 || blockBytes > maxBlockBytes || (blockBytes & (blockBytes - 1)) !== 0)
    throw noVhd({ field: 'Block Size', value: blockBytes, bound: `must be a power of two from 512 to ${maxBlockBytes}` });
  const blocks = Math.ceil(sizeBytes / blockBytes);
  const entries = view.getUint32(28);
  if (entries < blocks)
    throw noVhd({
      field: 'Max Table Entries',
      value: entries,
      bound: `must be at least ${blocks} for a disk of ${sizeBytes} bytes`,
    });
  const tableAt = view.getBigUint64(16);
  if (tableAt % 512n !== 0n || tableAt + BigInt(blocks) * 4n > BigInt(fileBytes))
    throw noVhd({
      field: 'Table Offset',
      value: tableAt,
      bound: `must be a multiple of 512 and leave room for ${blocks * 4} bytes before the end of the file at ${fileBytes}`,
    });
  // One bit per sector of the block, in whole sectors.
  const bitmapBytes = Math.ceil(blockBytes / 512 / 8 / 512) * 512;
  return { tableAt: Number(tableAt), blocks, blockBytes, bitmapBytes };
}
