// A Qcow2 image as extents. The L1 table is held whole; L2 tables are read lazily, in pieces of at most 64 KiB, so that a random read
// in an image of 2 MiB clusters does not fetch 2 MiB of table. Internal snapshots are other L1 tables: they are never looked at.
import { assertRange, type ByteSource, readBytes } from '../../platform/byte-source.ts';
import type { DiskImage, Extent, OpenLimits } from '../disk-image.ts';
import { ExtentRun } from '../extent-run.ts';
import { FileBudget } from '../file-budget.ts';
import { refuse, smallerDiskRemedy } from '../refusal.ts';
import { TableCache, type TablePiece } from '../table-cache.ts';
import { checkExtensions } from './extensions.ts';
import { parseQcow2Header, type Qcow2Header, qcow2HeaderBytes } from './header.ts';
import { L2Decoder, parseL1 } from './tables.ts';

const maxPieceBytes = 64 * 1024;
/** Extension area that is looked at; qemu's own extensions take less than 1 KiB. */
const maxExtensionBytes = 32 * 1024;
/** Entries that are decoded between two yields: bounds the extents in memory, 32 of them per entry with subclusters. */
const entriesPerStep = 4096;

/** @throws DomainError INVALID_ARGUMENT naming the field, when the image is corrupt, not supported or beyond a limit. */
export async function openQcow2(source: ByteSource, limits: OpenLimits, signal?: AbortSignal): Promise<DiskImage> {
  const fileBytes = source.sizeBytes;
  const start = await readBytes(source, 0, Math.min(fileBytes, maxExtensionBytes), signal);
  const header = parseQcow2Header(start.subarray(0, qcow2HeaderBytes), { fileBytes, maxSizeBytes: limits.maxSizeBytes });
  checkExtensions(start.subarray(header.headerBytes, header.clusterBytes), header.clusterBytes - header.headerBytes);

  const l1Bytes = header.l1Entries * 8;
  // Held twice, in guest order and sorted; the other half is for L2 tables.
  if (l1Bytes * 2 > limits.maxTableBytes / 2)
    throw refuse({
      format: 'Qcow2',
      field: 'the L1 table',
      value: l1Bytes,
      bound: `must be at most ${Math.floor(limits.maxTableBytes / 4)} bytes for the part that covers the disk`,
      remedy: `Convert it to larger clusters: qemu-img convert -O qcow2 -o cluster_size=64k <file> <file>.qcow2, or ${smallerDiskRemedy.toLowerCase()}`,
    });
  const l1 = parseL1(await readBytes(source, header.l1TableOffset, l1Bytes, signal), header, fileBytes);
  return new Qcow2Image(source, header, l1, limits);
}

class Qcow2Image implements DiskImage {
  readonly format = 'qcow2';
  readonly sizeBytes: number;
  readonly #header: Qcow2Header;
  readonly #l1: Float64Array;
  readonly #budget: FileBudget;
  readonly #cache: TableCache;
  readonly #decoder: L2Decoder;
  readonly #pieceBytes: number;
  readonly #piecesPerTable: number;
  readonly #entriesPerPiece: number;

  constructor(source: ByteSource, header: Qcow2Header, l1: Float64Array, limits: OpenLimits) {
    const { clusterBytes } = header;
    this.sizeBytes = header.sizeBytes;
    this.#header = header;
    this.#l1 = l1;
    this.#cache = new TableCache(source, limits.maxTableBytes / 4);
    this.#decoder = new L2Decoder(header, source.sizeBytes);
    this.#pieceBytes = Math.min(clusterBytes, maxPieceBytes);
    this.#piecesPerTable = clusterBytes / this.#pieceBytes;
    this.#entriesPerPiece = this.#pieceBytes / header.l2EntryBytes;
    this.#budget = new FileBudget(
      'Qcow2',
      source.sizeBytes,
      {
        ranges: [
          { name: 'the header', at: 0, length: clusterBytes },
          { name: 'the L1 table', at: header.l1TableOffset, length: l1.length * 8 },
          { name: 'the refcount table', at: header.refcountTableOffset, length: header.refcountTableBytes },
        ],
        tables: { name: 'an L2 table', offsets: l1.filter((offset) => offset !== 0), length: clusterBytes },
      },
      l1.length * this.#piecesPerTable,
    );
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncGenerator<Extent> {
    assertRange(this.sizeBytes, offset, length);
    if (length === 0) return;
    const { clusterBytes } = this.#header;
    const end = offset + length;
    const bytesPerPiece = this.#entriesPerPiece * clusterBytes;
    const firstPiece = Math.floor(offset / bytesPerPiece);
    const lastPiece = Math.ceil(end / bytesPerPiece);
    const run = new ExtentRun(firstPiece * bytesPerPiece, offset, end);

    for await (const { index, bytes } of this.#cache.inOrder(this.#allocatedPieces(firstPiece, lastPiece), signal)) {
      const pieceStart = index * bytesPerPiece;
      run.zero(pieceStart - run.position);
      const table = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      // Entries outside of the range are skipped, not decoded: a random read costs what it reads. Past the end of the disk they mean nothing.
      const first = Math.max(0, Math.floor((offset - pieceStart) / clusterBytes));
      const last = Math.min(this.#entriesPerPiece, Math.ceil((end - pieceStart) / clusterBytes));
      const inDisk = Math.min(this.#entriesPerPiece, Math.ceil((this.sizeBytes - pieceStart) / clusterBytes));
      const isWhole = first === 0 && last === inDisk;
      if (!isWhole && !this.#budget.isCounted(index)) this.#countPart(table, index, inDisk);
      run.zero(first * clusterBytes);
      let named = 0;
      for (let entry = first; entry < last; entry += entriesPerStep) {
        const stop = Math.min(last, entry + entriesPerStep);
        named += this.#decoder.decode(table, entry, stop, run, index * this.#entriesPerPiece);
        if (isWhole && stop === last) this.#budget.count(index, named);
        for (const extent of run.take()) yield this.#checked(extent);
      }
    }
    run.zero(Math.max(0, end - run.position));
    for (const extent of run.finish()) yield this.#checked(extent);
  }

  /** Counts what a piece names when only a part of it is read. */
  #countPart(table: DataView, index: number, entries: number): void {
    const firstCluster = index * this.#entriesPerPiece;
    // A window of nothing: the entries are checked and summed, no extent is made.
    const position = firstCluster * this.#header.clusterBytes;
    const nowhere = new ExtentRun(position, position, position);
    this.#budget.count(index, this.#decoder.decode(table, 0, entries, nowhere, firstCluster));
  }

  *#allocatedPieces(first: number, last: number): Generator<TablePiece> {
    for (let index = first; index < last; index += 1) {
      const tableAt = this.#l1[Math.floor(index / this.#piecesPerTable)]!;
      if (tableAt === 0) {
        // On to the last piece of this table.
        index += this.#piecesPerTable - 1 - (index % this.#piecesPerTable);
        continue;
      }
      const at = tableAt + (index % this.#piecesPerTable) * this.#pieceBytes;
      yield { index, at, length: this.#pieceBytes };
    }
  }

  #checked(extent: Extent): Extent {
    if (extent.kind === 'raw') this.#budget.assertData(extent.at, extent.length);
    // Whole sectors are named; the stream ends somewhere in the last one.
    else if (extent.kind === 'packed') this.#budget.assertData(extent.at, Math.max(1, extent.packedLength - 511));
    return extent;
  }
}
