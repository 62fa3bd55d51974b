// A sparse or stream-optimized VMDK as extents. The grain directory is held whole, grain tables (2 KiB each) are read lazily.
//
// Compressed grains do not say in a table how long they are. Every other thing in the file does say where it starts, so a grain's
// stream ends before the next known start: grains of the same table and of the next one, tables, the directory. Tools write grains in
// guest order, each right after the one before, so in practice nothing is fetched twice, and a walk reads the file in order, once.
import { assertRange, type ByteSource, readBytes } from '../../platform/byte-source.ts';
import type { DiskImage, Extent, OpenLimits } from '../disk-image.ts';
import { ExtentRun } from '../extent-run.ts';
import { FileBudget } from '../file-budget.ts';
import { assertGuestSize, smallerDiskRemedy } from '../refusal.ts';
import { TableCache, type TablePiece } from '../table-cache.ts';
import { parseDescriptor } from './descriptor.ts';
import {
  entriesPerTable,
  noVmdk,
  parseVmdkFooter,
  parseVmdkHeader,
  type VmdkHeader,
  vmdkFooterBytes,
  vmdkHeaderBytes,
} from './header.ts';
import { addGrains, grainTableBytes, parseDirectory, parseTable, storedBytes } from './tables.ts';

/** @throws DomainError INVALID_ARGUMENT naming the field, when the image is corrupt, not supported or beyond a limit. */
export async function openVmdk(source: ByteSource, limits: OpenLimits, signal?: AbortSignal): Promise<DiskImage> {
  const fileBytes = source.sizeBytes;
  const context = { fileBytes, maxSizeBytes: limits.maxSizeBytes };
  const first = parseVmdkHeader(await readBytes(source, 0, Math.min(fileBytes, vmdkHeaderBytes), signal), context);
  let header = first;
  if (first.directoryAt === undefined) {
    const footerBytes = Math.min(fileBytes, vmdkFooterBytes);
    const footer = parseVmdkFooter(await readBytes(source, fileBytes - footerBytes, footerBytes, signal), first, context);
    header = { ...first, directoryAt: footer.directoryAt };
  }
  const sizeSectors = parseDescriptor(await readBytes(source, first.descriptorAt, first.descriptorBytes, signal));
  const grainSectors = header.grainBytes / 512;
  // The header's capacity may be rounded up to a grain (VirtualBox does it); the descriptor has the true size.
  if (sizeSectors > header.capacitySectors || sizeSectors <= header.capacitySectors - grainSectors)
    throw noVmdk({
      field: 'the size of the extent in the descriptor',
      value: sizeSectors,
      bound: `must agree with the header's capacity of ${header.capacitySectors} sectors`,
    });
  const sizeBytes = assertGuestSize('VMDK', 'the size of the extent', BigInt(sizeSectors) * 512n, limits.maxSizeBytes);

  const tables = Math.ceil(header.capacitySectors / grainSectors / entriesPerTable);
  // Held as numbers of 8 bytes, three times: in guest order, sorted, and to find where grains end.
  if (tables * 24 > limits.maxTableBytes / 2)
    throw noVmdk({
      field: 'the grain directory',
      value: tables,
      bound: `must have at most ${Math.floor(limits.maxTableBytes / 48)} entries`,
      remedy: `Convert it: qemu-img convert -f vmdk -O qcow2 <file> <file>.qcow2, or ${smallerDiskRemedy.toLowerCase()}`,
    });
  const directory = parseDirectory(await readBytes(source, header.directoryAt!, tables * 4, signal), fileBytes);
  return new VmdkImage(source, header, directory, sizeBytes, limits);
}

class VmdkImage implements DiskImage {
  readonly format = 'vmdk';
  readonly sizeBytes: number;
  readonly #header: VmdkHeader;
  readonly #fileBytes: number;
  readonly #directory: Float64Array;
  /** Offsets of tables and of the directory, ascending. */
  readonly #starts: Float64Array;
  readonly #budget: FileBudget;
  readonly #cache: TableCache;

  constructor(source: ByteSource, header: VmdkHeader, directory: Float64Array, sizeBytes: number, limits: OpenLimits) {
    this.sizeBytes = sizeBytes;
    this.#header = header;
    this.#fileBytes = source.sizeBytes;
    this.#directory = directory;
    const tables = directory.filter((offset) => offset !== 0);
    this.#starts = new Float64Array(tables.length + 1);
    this.#starts.set(tables);
    this.#starts[tables.length] = header.directoryAt!;
    this.#starts.sort();
    this.#cache = new TableCache(source, limits.maxTableBytes / 4);
    this.#budget = new FileBudget(
      'VMDK',
      source.sizeBytes,
      {
        ranges: [
          { name: 'the header', at: 0, length: vmdkHeaderBytes },
          { name: 'the descriptor', at: header.descriptorAt, length: header.descriptorBytes },
          { name: 'the grain directory', at: header.directoryAt!, length: directory.length * 4 },
        ],
        tables: { name: 'a grain table', offsets: tables, length: grainTableBytes },
      },
      directory.length,
    );
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncGenerator<Extent> {
    assertRange(this.sizeBytes, offset, length);
    if (length === 0) return;
    const end = offset + length;
    const bytesPerTable = entriesPerTable * this.#header.grainBytes;
    const firstTable = Math.floor(offset / bytesPerTable);
    const lastTable = Math.ceil(end / bytesPerTable);
    const run = new ExtentRun(firstTable * bytesPerTable, offset, end);

    for await (const { index, grains, next } of this.#tables(firstTable, lastTable, signal)) {
      const tableStart = index * bytesPerTable;
      run.zero(tableStart - run.position);
      const first = Math.max(0, Math.floor((offset - tableStart) / this.#header.grainBytes));
      const last = Math.min(grains.length, Math.ceil((end - tableStart) / this.#header.grainBytes));
      run.zero(first * this.#header.grainBytes);
      const ends = this.#header.isCompressed ? this.#endsAmong(grains, next) : () => this.#fileBytes;
      addGrains(grains, first, last, run, this.#header, { fileBytes: this.#fileBytes, sizeBytes: this.sizeBytes, ends });
      for (const extent of run.take()) yield this.#checked(extent);
    }
    run.zero(Math.max(0, end - run.position));
    for (const extent of run.finish()) yield this.#checked(extent);
  }

  /** Tables [first, last) that are there, each with the grains of the one after it. */
  async *#tables(
    first: number,
    last: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<{ index: number; grains: Float64Array; next: Float64Array }> {
    let held: { index: number; grains: Float64Array } | undefined;
    for await (const { index, bytes } of this.#cache.inOrder(this.#pieces(first, last), signal)) {
      const firstGrain = index * entriesPerTable;
      const count = Math.min(entriesPerTable, Math.ceil(this.sizeBytes / this.#header.grainBytes) - firstGrain);
      const grains = parseTable(bytes, count, this.#header, this.#fileBytes, firstGrain);
      this.#budget.count(index, storedBytes(grains, this.#header, this.#fileBytes));
      if (held !== undefined && held.index < last) yield { ...held, next: grains };
      held = { index, grains };
    }
    if (held !== undefined && held.index < last) yield { ...held, next: noGrains };
  }

  /** Of compressed images one table more is read, to see where the last grain of the range ends. */
  *#pieces(first: number, last: number): Generator<TablePiece> {
    const isInDisk = (index: number): boolean => index * entriesPerTable * this.#header.grainBytes < this.sizeBytes;
    for (let index = first; index < this.#directory.length && isInDisk(index); index += 1) {
      if (index >= last && !this.#header.isCompressed) return;
      if (this.#directory[index] === 0) continue;
      yield { index, at: this.#directory[index]!, length: grainTableBytes };
      if (index >= last) return;
    }
  }

  /** Answers, for a grain at a file offset, the next offset at which something else starts. */
  #endsAmong(grains: Float64Array, next: Float64Array): (at: number) => number {
    const near = new Float64Array(grains.length + next.length);
    near.set(grains);
    near.set(next, grains.length);
    near.sort();
    return (at) => Math.min(firstAbove(near, at), firstAbove(this.#starts, at));
  }

  #checked(extent: Extent): Extent {
    if (extent.kind === 'raw') this.#budget.assertData(extent.at, extent.length);
    // How long a stream is shows when it is unpacked.
    else if (extent.kind === 'packed') this.#budget.assertData(extent.at, 1);
    return extent;
  }
}

const noGrains = new Float64Array(0);

/** The first of ascending `values` that is greater than `value`; Infinity when there is none. */
function firstAbove(values: Float64Array, value: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle]! <= value) low = middle + 1;
    else high = middle;
  }
  return values[low] ?? Infinity;
}
