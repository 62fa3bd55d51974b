// The header and the footer of a hosted sparse VMDK: pure parse and validation. Source of all facts: VMware's "Virtual Disk Format
// 5.0", sections "Hosted Sparse Extents" and "Stream-Optimized Compressed Sparse Extents"; its bounds, where the text has none, are
// qemu's (block/vmdk.c). Offsets and sizes in bytes here; the file counts sectors of 512.
import { assertGuestSize, convertRemedy, damagedRemedy, type Refusal, refuse } from '../refusal.ts';

export interface VmdkHeader {
  version: number;
  flags: number;
  /** Sectors of the extent, a multiple of the grain in files of VirtualBox. */
  capacitySectors: number;
  grainBytes: number;
  descriptorAt: number;
  descriptorBytes: number;
  /** undefined: at the end of the file, the footer says where. */
  directoryAt: number | undefined;
  isCompressed: boolean;
  /** Compressed grains have a marker before them: their sector and length. */
  hasMarkers: boolean;
  /** A grain table entry of 1 is a grain of zeros. */
  hasZeroGrains: boolean;
}

export const vmdkHeaderBytes = 512;
/** Footer marker, footer, end-of-stream marker. */
export const vmdkFooterBytes = 3 * 512;
export const entriesPerTable = 512;

const sector = 512n;
const directoryAtEnd = 0xffff_ffff_ffff_ffffn;
const flagBits = { newLineTest: 1, zeroGrains: 4, compressed: 1 << 16, markers: 1 << 17 };
const footerMarker = 3;
const maxDescriptorSectors = 2047n;
/** 4 KiB, the least that the specification allows, to 4 MiB, so that an unpacked grain is bounded. */
const grainSectors = { least: 8n, most: 8192n };

export const noVmdk = (refusal: Omit<Refusal, 'format' | 'remedy'> & { remedy?: string }): Error =>
  refuse({ format: 'VMDK', remedy: damagedRemedy, ...refusal });

export const splitRemedy = 'Join the extents into one file first: qemu-img convert -f vmdk -O qcow2 <descriptor> <file>.qcow2';

interface Context {
  fileBytes: number;
  maxSizeBytes: number;
}

/** @throws DomainError INVALID_ARGUMENT naming the first field that is wrong or that asks for what is not supported. */
export function parseVmdkHeader(bytes: Uint8Array, { fileBytes, maxSizeBytes }: Context): VmdkHeader {
  if (bytes.length < vmdkHeaderBytes)
    throw noVmdk({ field: 'the size of the file', value: fileBytes, bound: `must be at least ${vmdkHeaderBytes} bytes` });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

  const version = view.getUint32(4, true);
  if (version < 1 || version > 3)
    throw noVmdk({ field: 'version', value: version, bound: 'must be from 1 to 3', remedy: convertRemedy('vmdk') });
  const flags = view.getUint32(8, true);
  // The bytes that a transfer in text mode would have changed.
  if ((flags & flagBits.newLineTest) !== 0 && view.getUint32(73, true) !== 0x0a0d200a)
    throw noVmdk({
      field: 'the new line test',
      value: `0x${view.getUint32(73, true).toString(16)}`,
      bound: 'must be 0xa0d200a: the file was transferred as text',
      remedy: 'Transfer it again, in binary mode.',
    });

  const capacity = view.getBigUint64(12, true);
  if (capacity === 0n)
    throw noVmdk({
      field: 'capacity',
      value: 0,
      bound: 'must not be 0: the data of this disk is in other files',
      remedy: convertRemedy('vmdk'),
    });
  assertGuestSize('VMDK', 'capacity', capacity * sector, maxSizeBytes);

  const grain = view.getBigUint64(20, true);
  if (grain < grainSectors.least || grain > grainSectors.most || (grain & (grain - 1n)) !== 0n)
    throw noVmdk({
      field: 'grainSize',
      value: grain,
      bound: `must be a power of two from ${grainSectors.least} to ${grainSectors.most} sectors`,
    });
  const entries = view.getUint32(44, true);
  if (entries !== entriesPerTable) throw noVmdk({ field: 'numGTEsPerGT', value: entries, bound: `must be ${entriesPerTable}` });

  const algorithm = view.getUint16(77, true);
  const isCompressed = (flags & flagBits.compressed) !== 0;
  if (algorithm > 1)
    throw noVmdk({
      field: 'compressAlgorithm',
      value: algorithm,
      bound: 'must be 0 (none) or 1 (deflate)',
      remedy: convertRemedy('vmdk'),
    });
  if (isCompressed !== (algorithm === 1))
    throw noVmdk({
      field: 'compressAlgorithm',
      value: algorithm,
      bound: 'must be 1 exactly when flag bit 16 (compressed grains) is set',
    });

  const descriptorOffset = view.getBigUint64(28, true);
  const descriptorSectors = view.getBigUint64(36, true);
  if (descriptorOffset === 0n || descriptorSectors === 0n)
    throw noVmdk({
      field: 'descriptorOffset',
      value: descriptorOffset,
      bound: 'must not be 0: without a descriptor the file is one extent of a split disk',
      remedy: splitRemedy,
    });
  if (descriptorSectors > maxDescriptorSectors)
    throw noVmdk({ field: 'descriptorSize', value: descriptorSectors, bound: `must be at most ${maxDescriptorSectors} sectors` });
  const inFile = (field: string, sectors: bigint, length: bigint): number => {
    if (sectors * sector + length > BigInt(fileBytes))
      throw noVmdk({
        field,
        value: sectors,
        bound: `must leave room for ${length} bytes before the end of the file at ${fileBytes}`,
      });
    return Number(sectors * sector);
  };

  const directoryOffset = view.getBigUint64(56, true);
  const directoryBytes = ((capacity + grain * BigInt(entriesPerTable) - 1n) / (grain * BigInt(entriesPerTable))) * 4n;
  if (directoryOffset === 0n) throw noVmdk({ field: 'gdOffset', value: 0, bound: 'must not be 0' });
  inFile('overHead', view.getBigUint64(64, true), 0n);
  return {
    version,
    flags,
    capacitySectors: Number(capacity),
    grainBytes: Number(grain * sector),
    descriptorAt: inFile('descriptorOffset', descriptorOffset, descriptorSectors * sector),
    descriptorBytes: Number(descriptorSectors * sector),
    directoryAt: directoryOffset === directoryAtEnd ? undefined : inFile('gdOffset', directoryOffset, directoryBytes),
    isCompressed,
    hasMarkers: (flags & flagBits.markers) !== 0,
    hasZeroGrains: (flags & flagBits.zeroGrains) !== 0,
  };
}

/**
 * The header that ends a stream: it repeats the first and knows where the grain directory is. `bytes` are the last vmdkFooterBytes.
 * @throws DomainError INVALID_ARGUMENT when there is no footer (the file was cut short) or it contradicts the header.
 */
export function parseVmdkFooter(bytes: Uint8Array, header: VmdkHeader, context: Context): VmdkHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const isMarker = (at: number, type: number): boolean =>
    at + 16 <= bytes.length && view.getUint32(at + 8, true) === 0 && view.getUint32(at + 12, true) === type;
  const isComplete =
    bytes.length === vmdkFooterBytes &&
    isMarker(0, footerMarker) &&
    isMarker(1024, 0) &&
    view.getUint32(512, true) === 0x564d444b;
  if (!isComplete)
    throw noVmdk({
      field: 'the end of the file',
      value: context.fileBytes,
      bound: 'must be preceded by a footer and an end-of-stream marker: the file was cut short',
    });
  const footer = parseVmdkHeader(bytes.subarray(512, 1024), context);
  for (const field of ['version', 'flags', 'capacitySectors', 'grainBytes'] as const)
    if (footer[field] !== header[field])
      throw noVmdk({
        field: `${field} of the footer`,
        value: footer[field],
        bound: `must be ${header[field]}, as in the header`,
      });
  if (footer.directoryAt === undefined)
    throw noVmdk({ field: 'gdOffset of the footer', value: -1, bound: 'must say where the grain directory is' });
  return footer;
}
