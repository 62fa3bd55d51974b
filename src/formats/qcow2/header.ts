// The header of a Qcow2 file: pure parse and validation. Source of all facts: qemu's docs/interop/qcow2.txt, sections "Header",
// "Additional fields" and "Header extensions"; its bounds are qemu's own (block/qcow2.h). Offsets and sizes in bytes.
import { assertGuestSize, convertRemedy, damagedRemedy, type Refusal, refuse } from '../refusal.ts';

export interface Qcow2Header {
  version: 2 | 3;
  /** Where header extensions start. */
  headerBytes: number;
  clusterBits: number;
  clusterBytes: number;
  sizeBytes: number;
  l1TableOffset: number;
  /** Entries that cover the guest's disk: what is read. The table may have more (VM states of snapshots). */
  l1Entries: number;
  refcountTableOffset: number;
  refcountTableBytes: number;
  compression: 'deflate-raw' | 'zstd';
  /** 16-byte L2 entries with 32 subclusters per cluster. */
  hasExtendedL2: boolean;
  /** Bytes of an L2 entry. */
  l2EntryBytes: 8 | 16;
}

/** Bytes of the header that are looked at; extensions follow it, up to the end of the first cluster. */
export const qcow2HeaderBytes = 112;

const v2HeaderBytes = 72;
const v3HeaderBytes = 104;
const maxL1Bytes = 32 * 1024 * 1024;
const maxRefcountTableBytes = 8 * 1024 * 1024;
const maxSnapshots = 65_536;
/** The fixed part of a snapshot's entry, the least that each takes. */
const snapshotEntryBytes = 40;

const incompatible = { dirty: 1n, corrupt: 2n, dataFile: 4n, compressionType: 8n, extendedL2: 16n };
const knownIncompatible = Object.values(incompatible).reduce((all, bit) => all | bit, 0n);

const no = (refusal: Omit<Refusal, 'format' | 'remedy'> & { remedy?: string }): Error =>
  refuse({ format: 'Qcow2', remedy: damagedRemedy, ...refusal });

const flattenRemedy = `Join the chain into one file first: ${convertRemedy('qcow2').replace('Convert it first: ', '')}`;

interface Context {
  fileBytes: number;
  maxSizeBytes: number;
}

/**
 * `bytes` are the first bytes of the file, qcow2HeaderBytes or all there are.
 * @throws DomainError INVALID_ARGUMENT naming the first field that is wrong or that asks for what is not supported.
 */
export function parseQcow2Header(bytes: Uint8Array, { fileBytes, maxSizeBytes }: Context): Qcow2Header {
  if (bytes.length < v2HeaderBytes)
    throw no({ field: 'the size of the file', value: fileBytes, bound: `must be at least ${v2HeaderBytes} bytes` });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

  const version = view.getUint32(4);
  if (version !== 2 && version !== 3)
    throw no({ field: 'version', value: version, bound: 'must be 2 or 3', remedy: convertRemedy('qcow2') });
  if (version === 3 && bytes.length < v3HeaderBytes)
    throw no({ field: 'the size of the file', value: fileBytes, bound: `must be at least ${v3HeaderBytes} bytes` });

  // What the image asks for comes before its sizes: an encrypted image or an overlay is refused as such.
  const features = version === 3 ? view.getBigUint64(72) : 0n;
  const headerBytes = version === 3 ? view.getUint32(100) : v2HeaderBytes;
  const clusterBits = view.getUint32(20);
  if (clusterBits < 9 || clusterBits > 21) throw no({ field: 'cluster_bits', value: clusterBits, bound: 'must be from 9 to 21' });
  const clusterBytes = 2 ** clusterBits;
  if (version === 3 && (headerBytes < v3HeaderBytes || headerBytes % 8 !== 0 || headerBytes > clusterBytes))
    throw no({
      field: 'header_length',
      value: headerBytes,
      bound: `must be a multiple of 8 from ${v3HeaderBytes} to the cluster size`,
    });
  assertFeatures(features);
  const compressionType = headerBytes > v3HeaderBytes && bytes.length > v3HeaderBytes ? view.getUint8(v3HeaderBytes) : 0;
  const compression = compressionOf(compressionType, (features & incompatible.compressionType) !== 0n);
  const hasExtendedL2 = (features & incompatible.extendedL2) !== 0n;
  if (hasExtendedL2 && clusterBits < 14)
    throw no({ field: 'cluster_bits', value: clusterBits, bound: 'must be at least 14 with extended L2 entries' });

  const backingFileOffset = view.getBigUint64(8);
  if (backingFileOffset !== 0n)
    throw no({
      field: 'backing_file_offset',
      value: backingFileOffset,
      bound: 'must be 0: the image needs a backing file, and names inside an image are never followed',
      remedy: flattenRemedy,
    });
  const cryptMethod = view.getUint32(32);
  if (cryptMethod !== 0)
    throw no({
      field: 'crypt_method',
      value: cryptMethod,
      bound: 'must be 0: encrypted images are not supported',
      remedy: 'Decrypt it first: qemu-img convert with --object secret and --image-opts, to an unencrypted Qcow2.',
    });

  const sizeBytes = assertGuestSize('Qcow2', 'size', view.getBigUint64(24), maxSizeBytes);
  if (sizeBytes % 512 !== 0) throw no({ field: 'size', value: sizeBytes, bound: 'must be a multiple of 512' });

  const l2EntryBytes = hasExtendedL2 ? 16 : 8;
  const bytesPerL1Entry = (clusterBytes / l2EntryBytes) * clusterBytes;
  const l1Entries = Math.ceil(sizeBytes / bytesPerL1Entry);
  const l1Size = view.getUint32(36);
  if (l1Size * 8 > maxL1Bytes) throw no({ field: 'l1_size', value: l1Size, bound: `must be at most ${maxL1Bytes / 8} entries` });
  if (l1Size < l1Entries)
    throw no({
      field: 'l1_size',
      value: l1Size,
      bound: `must be at least ${l1Entries} entries for a disk of ${sizeBytes} bytes`,
    });
  const at = (field: string, position: number, length: number): number =>
    tableOffset(field, view.getBigUint64(position), length, clusterBytes, fileBytes);
  const l1TableOffset = at('l1_table_offset', 40, l1Size * 8);

  const refcountOrder = version === 3 ? view.getUint32(96) : 4;
  if (refcountOrder > 6) throw no({ field: 'refcount_order', value: refcountOrder, bound: 'must be at most 6' });
  const refcountTableClusters = view.getUint32(56);
  const refcountTableBytes = refcountTableClusters * clusterBytes;
  if (refcountTableClusters === 0 || refcountTableBytes > maxRefcountTableBytes)
    throw no({
      field: 'refcount_table_clusters',
      value: refcountTableClusters,
      bound: `must be from 1 to ${maxRefcountTableBytes / clusterBytes}`,
    });
  const refcountTableOffset = at('refcount_table_offset', 48, refcountTableBytes);

  const snapshots = view.getUint32(60);
  if (snapshots > maxSnapshots) throw no({ field: 'nb_snapshots', value: snapshots, bound: `must be at most ${maxSnapshots}` });
  if (snapshots > 0) at('snapshots_offset', 64, snapshots * snapshotEntryBytes);

  return {
    version,
    headerBytes,
    clusterBits,
    clusterBytes,
    sizeBytes,
    l1TableOffset,
    l1Entries,
    refcountTableOffset,
    refcountTableBytes,
    compression,
    hasExtendedL2,
    l2EntryBytes,
  };
}

function assertFeatures(features: bigint): void {
  const value = `0x${features.toString(16)}`;
  if ((features & ~knownIncompatible) !== 0n)
    throw no({
      field: 'incompatible_features',
      value,
      bound: `must have no bits but 0x${knownIncompatible.toString(16)}: the others are not known`,
      remedy: convertRemedy('qcow2'),
    });
  if ((features & incompatible.corrupt) !== 0n)
    throw no({
      field: 'incompatible_features',
      value,
      bound: 'must not have bit 1 (corrupt)',
      remedy: 'Repair it first: qemu-img check -r all <file>',
    });
  if ((features & incompatible.dataFile) !== 0n)
    throw no({
      field: 'incompatible_features',
      value,
      bound: 'must not have bit 2 (external data file): names inside an image are never followed',
      remedy: flattenRemedy,
    });
}

function compressionOf(type: number, isBitSet: boolean): Qcow2Header['compression'] {
  if (type > 1)
    throw no({ field: 'compression_type', value: type, bound: 'must be 0 (zlib) or 1 (zstd)', remedy: convertRemedy('qcow2') });
  if (isBitSet !== (type !== 0))
    throw no({
      field: 'compression_type',
      value: type,
      bound: 'must be non-zero exactly when incompatible feature bit 3 is set',
    });
  return type === 0 ? 'deflate-raw' : 'zstd';
}

/** A table's place: aligned to clusters, after the header, inside the file. */
function tableOffset(field: string, offset: bigint, length: number, clusterBytes: number, fileBytes: number): number {
  if (offset % BigInt(clusterBytes) !== 0n || offset === 0n)
    throw no({ field, value: offset, bound: `must be a multiple of the cluster size ${clusterBytes}, and not 0` });
  if (offset + BigInt(length) > BigInt(fileBytes))
    throw no({ field, value: offset, bound: `must leave room for ${length} bytes before the end of the file at ${fileBytes}` });
  return Number(offset);
}
