// L1 and L2 tables. Source: docs/interop/qcow2.txt, sections "Cluster mapping" and "Extended L2 Entries".
//
// Entries are 64-bit, and there are millions of them: they are read as two 32-bit halves, `high` and `low`, because a bigint per
// entry would cost more than all the rest. Offsets have at most 56 bits and are compared with the file's size before they are used.
import type { ExtentRun } from '../extent-run.ts';
import { damagedRemedy, refuse } from '../refusal.ts';
import type { Qcow2Header } from './header.ts';

const l1ReservedHigh = 0x7f00_0000;
const l1ReservedLow = 0x1ff;
const compressedHigh = 0x4000_0000;
const l2ReservedHigh = 0x3f00_0000;
const l2ReservedLow = 0x1fe;
const zeroLow = 1;
const offsetHigh = 0x00ff_ffff;
const offsetLow = 0xffff_fe00;
const subclusters = 32;
const allSubclusters = 0xffff_ffff;

const wordOf = (high: number, low: number): number => high * 2 ** 32 + (low >>> 0);

const hex = (high: number, low: number): string =>
  `0x${(high >>> 0).toString(16).padStart(8, '0')}${(low >>> 0).toString(16).padStart(8, '0')}`;

const no = (field: string, value: string, bound: string): Error =>
  refuse({ format: 'Qcow2', field, value, bound, remedy: damagedRemedy });

/**
 * The file offsets of the L2 tables, 0 for those that are not allocated.
 * @throws DomainError INVALID_ARGUMENT when an entry has reserved bits, is not aligned, or points outside of the file.
 */
export function parseL1(bytes: Uint8Array, { clusterBytes }: Qcow2Header, fileBytes: number): Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const offsets = new Float64Array(bytes.length / 8);
  for (let index = 0; index < offsets.length; index += 1) {
    const high = view.getUint32(index * 8);
    const low = view.getUint32(index * 8 + 4);
    if (high === 0 && low === 0) continue;
    const field = `L1 entry ${index}`;
    if ((high & l1ReservedHigh) !== 0 || (low & l1ReservedLow) !== 0)
      throw no(field, hex(high, low), 'must not have reserved bits set');
    const offset = wordOf(high & offsetHigh, low);
    if (offset % clusterBytes !== 0)
      throw no(field, hex(high, low), `must point to a multiple of the cluster size ${clusterBytes}`);
    if (offset + clusterBytes > fileBytes)
      throw no(field, hex(high, low), `must point to an L2 table of ${clusterBytes} bytes inside the file's ${fileBytes}`);
    offsets[index] = offset;
  }
  return offsets;
}

/** Decodes L2 entries into runs. */
export class L2Decoder {
  readonly #header: Qcow2Header;
  readonly #fileBytes: number;
  /** Bits of the sector count in a compressed descriptor's high half start here. */
  readonly #sectorShift: number;

  constructor(header: Qcow2Header, fileBytes: number) {
    this.#header = header;
    this.#fileBytes = fileBytes;
    // The descriptor has 62 bits: x = 62 - (cluster_bits - 8) of offset, from 49 (2 MiB) to 61 (512 B), then the count.
    this.#sectorShift = 62 - (header.clusterBits - 8) - 32;
  }

  /**
   * Adds the clusters of entries [first, last) of `table` to `run`. Answers how many bytes of the file they name, at least.
   * `cluster` is the guest cluster of entry 0, for messages.
   */
  decode(table: DataView, first: number, last: number, run: ExtentRun, cluster: number): number {
    const { clusterBytes, hasExtendedL2, l2EntryBytes, version } = this.#header;
    let named = 0;
    for (let index = first; index < last; index += 1) {
      const high = table.getUint32(index * l2EntryBytes);
      const low = table.getUint32(index * l2EntryBytes + 4);
      if ((high & compressedHigh) !== 0) {
        named += this.#compressed(high, low, run, cluster + index);
        continue;
      }
      if (high === 0 && low === 0 && !hasExtendedL2) {
        run.zero(clusterBytes);
        continue;
      }
      if ((high & l2ReservedHigh) !== 0 || (low & l2ReservedLow) !== 0 || (hasExtendedL2 && (low & zeroLow) !== 0))
        throw no(this.#entry(cluster + index), hex(high, low), 'must not have reserved bits set');
      const at = wordOf(high & offsetHigh, low & offsetLow);
      if (at % clusterBytes !== 0)
        throw no(this.#entry(cluster + index), hex(high, low), `must point to a multiple of the cluster size ${clusterBytes}`);
      if (hasExtendedL2) {
        const zeroBits = table.getUint32(index * l2EntryBytes + 8);
        const allocatedBits = table.getUint32(index * l2EntryBytes + 12);
        named += this.#subclusters(at, zeroBits, allocatedBits, run, cluster + index);
      } else if ((low & zeroLow) !== 0) {
        if (version === 2)
          throw no(this.#entry(cluster + index), hex(high, low), 'must not have bit 0 (zero cluster) in version 2');
        run.zero(clusterBytes);
      } else if (at === 0) {
        run.zero(clusterBytes);
      } else {
        this.#assertInFile(at, cluster + index);
        run.rawClipped(clusterBytes, at, this.#fileBytes);
        named += Math.min(clusterBytes, this.#fileBytes - at);
      }
    }
    return named;
  }

  #compressed(high: number, low: number, run: ExtentRun, cluster: number): number {
    const { clusterBytes, compression } = this.#header;
    const shift = this.#sectorShift;
    const at = wordOf(high & ((1 << shift) - 1), low);
    const sectors = ((high & 0x3fff_ffff) >>> shift) + 1;
    this.#assertInFile(at, cluster);
    // Whole sectors, of which the last may be cut off by the end of the file.
    const packedLength = Math.min(sectors * 512 - (at % 512), this.#fileBytes - at);
    run.packed({ at, packedLength, codec: compression, unitLength: clusterBytes });
    // The last sector may be shared with the next cluster's stream.
    return Math.max(1, packedLength - 511);
  }

  #subclusters(at: number, zeroBits: number, allocatedBits: number, run: ExtentRun, cluster: number): number {
    const { clusterBytes } = this.#header;
    if ((zeroBits & allocatedBits) !== 0)
      throw no(this.#bitmap(cluster), hex(zeroBits, allocatedBits), 'must not have a subcluster both allocated and zero');
    if (allocatedBits === 0) {
      run.zero(clusterBytes);
      return 0;
    }
    if (at === 0)
      throw no(this.#bitmap(cluster), hex(zeroBits, allocatedBits), 'must not allocate in a cluster without an offset');
    this.#assertInFile(at, cluster);
    const subclusterBytes = clusterBytes / subclusters;
    if (allocatedBits === allSubclusters) run.rawClipped(clusterBytes, at, this.#fileBytes);
    else
      for (let index = 0; index < subclusters; index += 1) {
        if ((allocatedBits & (1 << index)) === 0) run.zero(subclusterBytes);
        else run.rawClipped(subclusterBytes, at + index * subclusterBytes, this.#fileBytes);
      }
    // The file holds the whole cluster, whichever subclusters are in use.
    return Math.min(clusterBytes, this.#fileBytes - at);
  }

  /** A cluster that starts past the end was cut off with it. qemu reads zeros there; a truncated upload would become an image. */
  #assertInFile(at: number, cluster: number): void {
    if (at >= this.#fileBytes)
      throw no(this.#entry(cluster), `${at}`, `must point inside the file's ${this.#fileBytes} bytes: the file was cut short`);
  }

  #entry(cluster: number): string {
    return `the L2 entry of guest cluster ${cluster}`;
  }

  #bitmap(cluster: number): string {
    return `the subcluster bitmap of guest cluster ${cluster}`;
  }
}
