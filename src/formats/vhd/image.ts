// A fixed or dynamic VHD as extents. A fixed disk is its bytes, followed by the footer. A dynamic one has a copy of the footer at the
// start, a header, and a table of blocks, which is read lazily in pieces.
import { assertRange, type ByteSource, readBytes } from '../../platform/byte-source.ts';
import type { DiskImage, Extent, OpenLimits } from '../disk-image.ts';
import { ExtentRun } from '../extent-run.ts';
import { FileBudget } from '../file-budget.ts';
import { TableCache, type TablePiece } from '../table-cache.ts';
import {
  noVhd,
  parseVhdDynamicHeader,
  parseVhdFooter,
  type VhdDynamicHeader,
  vhdDynamicHeaderBytes,
  vhdFooterBytes,
} from './header.ts';
import { addBlocks } from './tables.ts';

const entriesPerPiece = 16 * 1024;
/** Blocks between two yields. */
const blocksPerStep = 4096;

const isFooter = (bytes: Uint8Array): boolean => Buffer.from(bytes.subarray(0, 8)).toString('latin1') === 'conectix';

/** @throws DomainError INVALID_ARGUMENT naming the field, when the image is corrupt, not supported or beyond a limit. */
export async function openVhd(source: ByteSource, limits: OpenLimits, signal?: AbortSignal): Promise<DiskImage> {
  const fileBytes = source.sizeBytes;
  if (fileBytes < vhdFooterBytes)
    throw noVhd({ field: 'the size of the file', value: fileBytes, bound: `must be at least ${vhdFooterBytes} bytes` });
  const [start, end] = await Promise.all([
    readBytes(source, 0, vhdFooterBytes, signal),
    readBytes(source, fileBytes - vhdFooterBytes, vhdFooterBytes, signal),
  ]);
  // A fixed disk's first sector is the guest's, who may write a footer into it: the one at the end decides which kind it is.
  const footer = parseVhdFooter(isFooter(end) ? end : start, limits);
  if (footer.kind === 'fixed') return fixedImage(footer.sizeBytes, isFooter(end) ? fileBytes - vhdFooterBytes : 0);
  if (!isFooter(start))
    throw noVhd({ field: 'the start of the file', value: '', bound: 'must be a copy of the footer of this dynamic disk' });
  const copy = parseVhdFooter(start, limits);
  for (const field of ['kind', 'sizeBytes', 'dynamicHeaderAt'] as const)
    if (copy[field] !== footer[field])
      throw noVhd({
        field: `${field} of the footer's copy`,
        value: copy[field],
        bound: `must be ${footer[field]}, as in the footer`,
      });

  if (footer.dynamicHeaderAt + vhdDynamicHeaderBytes > fileBytes)
    throw noVhd({
      field: 'Data Offset',
      value: footer.dynamicHeaderAt,
      bound: `must leave room for ${vhdDynamicHeaderBytes} bytes before the end of the file at ${fileBytes}`,
    });
  const dynamic = await readBytes(source, footer.dynamicHeaderAt, vhdDynamicHeaderBytes, signal);
  const header = parseVhdDynamicHeader(dynamic, footer.sizeBytes, fileBytes);
  return new DynamicVhd(source, footer.sizeBytes, footer.dynamicHeaderAt, header, limits);
}

function fixedImage(sizeBytes: number, dataBytes: number): DiskImage {
  if (sizeBytes > dataBytes)
    throw noVhd({
      field: 'Current Size',
      value: sizeBytes,
      bound: `must be at most ${dataBytes}, what the file has before its footer`,
    });
  return {
    format: 'vhd',
    sizeBytes,
    async *extents(offset, length) {
      assertRange(sizeBytes, offset, length);
      if (length > 0) yield { kind: 'raw', offset, length, at: offset };
    },
  };
}

class DynamicVhd implements DiskImage {
  readonly format = 'vhd';
  readonly sizeBytes: number;
  readonly #header: VhdDynamicHeader;
  readonly #fileBytes: number;
  readonly #budget: FileBudget;
  readonly #cache: TableCache;

  constructor(source: ByteSource, sizeBytes: number, headerAt: number, header: VhdDynamicHeader, limits: OpenLimits) {
    this.sizeBytes = sizeBytes;
    this.#header = header;
    this.#fileBytes = source.sizeBytes;
    this.#cache = new TableCache(source, limits.maxTableBytes / 4);
    this.#budget = new FileBudget(
      'VHD',
      source.sizeBytes,
      {
        ranges: [
          { name: "the footer's copy", at: 0, length: vhdFooterBytes },
          { name: 'the dynamic disk header', at: headerAt, length: vhdDynamicHeaderBytes },
          { name: 'the block allocation table', at: header.tableAt, length: header.blocks * 4 },
        ],
        tables: { name: '', offsets: new Float64Array(0), length: 0 },
      },
      Math.ceil(header.blocks / entriesPerPiece),
    );
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncGenerator<Extent> {
    assertRange(this.sizeBytes, offset, length);
    if (length === 0) return;
    const { blockBytes } = this.#header;
    const end = offset + length;
    const bytesPerPiece = entriesPerPiece * blockBytes;
    const firstPiece = Math.floor(offset / bytesPerPiece);
    const run = new ExtentRun(firstPiece * bytesPerPiece, offset, end);

    for await (const { index, bytes } of this.#cache.inOrder(this.#pieces(firstPiece, Math.ceil(end / bytesPerPiece)), signal)) {
      const table = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      const pieceStart = index * bytesPerPiece;
      const disk = { fileBytes: this.#fileBytes, sizeBytes: this.sizeBytes, firstBlock: index * entriesPerPiece };
      const entries = bytes.length / 4;
      if (!this.#budget.isCounted(index)) {
        // A window of nothing: the entries are checked and summed, no extent is made.
        const nowhere = new ExtentRun(pieceStart, pieceStart, pieceStart);
        this.#budget.count(index, addBlocks(table, 0, entries, nowhere, this.#header, disk));
      }
      const first = Math.max(0, Math.floor((offset - pieceStart) / blockBytes));
      const last = Math.min(entries, Math.ceil((end - pieceStart) / blockBytes));
      run.zero(first * blockBytes);
      for (let block = first; block < last; block += blocksPerStep) {
        addBlocks(table, block, Math.min(last, block + blocksPerStep), run, this.#header, disk);
        for (const extent of run.take()) yield this.#checked(extent);
      }
    }
    for (const extent of run.finish()) yield this.#checked(extent);
  }

  *#pieces(first: number, last: number): Generator<TablePiece> {
    for (let index = first; index < last; index += 1) {
      const entry = index * entriesPerPiece;
      const entries = Math.min(entriesPerPiece, this.#header.blocks - entry);
      yield { index, at: this.#header.tableAt + entry * 4, length: entries * 4 };
    }
  }

  #checked(extent: Extent): Extent {
    if (extent.kind === 'raw') this.#budget.assertData(extent.at, extent.length);
    return extent;
  }
}
