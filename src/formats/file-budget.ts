// Two rules that hold for the tables of every format, and that no honest tool breaks:
//   - tables do not lie inside each other, and guest data does not lie inside a table;
//   - a file's bytes are named once. Without it a megabyte of file could name one cluster over and over and become terabytes of data.
// The second is checked as a sum, once for each table that is read: memory stays flat whatever the file's size.
import { damagedRemedy, refuse } from './refusal.ts';

export interface ReservedRange {
  /** As the specification calls it. */
  name: string;
  at: number;
  length: number;
}

export interface Reservations {
  /** Headers and the few large tables. */
  ranges: readonly ReservedRange[];
  /** Many tables of one length: their file offsets, in any order. Kept and sorted in place. */
  tables: { name: string; offsets: Float64Array; length: number };
}

export class FileBudget {
  readonly #format: string;
  readonly #fileBytes: number;
  readonly #ranges: readonly ReservedRange[];
  readonly #tables: Reservations['tables'];
  readonly #counted: Uint8Array;
  #namedBytes = 0;

  /**
   * `countable` is how many tables will be counted.
   * @throws DomainError INVALID_ARGUMENT when two of the reserved ranges overlap.
   */
  constructor(format: string, fileBytes: number, { ranges, tables }: Reservations, countable: number) {
    this.#format = format;
    this.#fileBytes = fileBytes;
    this.#ranges = ranges.filter(({ length }) => length > 0);
    this.#tables = tables;
    this.#counted = new Uint8Array(Math.ceil(countable / 8));
    const { offsets, length, name } = tables;
    offsets.sort();
    for (let index = 1; index < offsets.length; index += 1)
      if (offsets[index]! - offsets[index - 1]! < length) throw this.#overlap(name, offsets[index]!, name, offsets[index - 1]!);
    this.#ranges.forEach((range, index) => {
      const table = this.#tableIn(range.at, range.length);
      if (table !== undefined) throw this.#overlap(name, table, range.name, range.at);
      const other = this.#ranges.find(
        (each, at) => at < index && each.at < range.at + range.length && range.at < each.at + each.length,
      );
      if (other !== undefined) throw this.#overlap(range.name, range.at, other.name, other.at);
    });
  }

  /** @throws DomainError INVALID_ARGUMENT when guest data at [at, at + length) of the file would be a piece of a table. */
  assertData(at: number, length: number): void {
    const range = this.#ranges.find((each) => each.at < at + length && at < each.at + each.length);
    if (range !== undefined) throw this.#overlap('guest data', at, range.name, range.at);
    const table = this.#tableIn(at, length);
    if (table !== undefined) throw this.#overlap('guest data', at, this.#tables.name, table);
  }

  isCounted(index: number): boolean {
    return (this.#counted[index >>> 3]! & (1 << (index & 7))) !== 0;
  }

  /**
   * Counts the bytes that the table `index` names, once.
   * @throws DomainError INVALID_ARGUMENT, each time, when all that was counted is more than the file has.
   */
  count(index: number, bytes: number): void {
    if (this.isCounted(index)) return;
    const total = this.#namedBytes + bytes;
    if (total > this.#fileBytes)
      throw refuse({
        format: this.#format,
        field: 'the sum of the data that its tables name',
        value: total,
        bound: `must be at most the file's ${this.#fileBytes} bytes: tables name the same bytes more than once`,
        remedy: damagedRemedy,
      });
    this.#namedBytes = total;
    this.#counted[index >>> 3]! |= 1 << (index & 7);
  }

  /** The last of the tables that overlap [at, at + length), by its offset. */
  #tableIn(at: number, length: number): number | undefined {
    const { offsets, length: tableLength } = this.#tables;
    let low = 0;
    let high = offsets.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (offsets[middle]! < at + length) low = middle + 1;
      else high = middle;
    }
    return low > 0 && offsets[low - 1]! + tableLength > at ? offsets[low - 1]! : undefined;
  }

  #overlap(name: string, at: number, otherName: string, otherAt: number): Error {
    return refuse({
      format: this.#format,
      field: `the offset of ${name}`,
      value: at,
      bound: `must not lie inside ${otherName} (at ${otherAt})`,
      remedy: damagedRemedy,
    });
  }
}
