// Which long stretches of a disk a generation has made zeros: disjoint ranges of groups, ascending, in two arrays. Trimming a whole disk
// is one entry.

export class ZeroRanges {
  /** Range i is [starts[i], ends[i]) and was trimmed when trimmed[i]. */
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  readonly #trimmed: boolean[] = [];

  get count(): number {
    return this.#starts.length;
  }

  /** Undefined outside of every range. */
  find(group: number): { trimmed: boolean; end: number } | undefined {
    const index = this.#lastFrom(group);
    if (index < 0 || this.#ends[index]! <= group) return undefined;
    return { trimmed: this.#trimmed[index]!, end: this.#ends[index]! };
  }

  /** Ranges ascending. */
  *entries(): Generator<[start: number, end: number]> {
    for (let index = 0; index < this.#starts.length; index += 1) yield [this.#starts[index]!, this.#ends[index]!];
  }

  /** Sets [start, end), over what was there. */
  set(start: number, end: number, trimmed: boolean): void {
    let first = this.#lastFrom(start);
    if (first < 0 || this.#ends[first]! < start) first += 1;
    let after = first;
    while (after < this.#starts.length && this.#starts[after]! <= end) after += 1;
    const news: [number, number, boolean][] = [[start, end, trimmed]];
    if (first < after) {
      // What sticks out of the range at either side stays, joined to it when it is of the same kind.
      const left = { start: this.#starts[first]!, end: this.#ends[first]!, trimmed: this.#trimmed[first]! };
      const right = { start: this.#starts[after - 1]!, end: this.#ends[after - 1]!, trimmed: this.#trimmed[after - 1]! };
      if (left.start < start) {
        if (left.trimmed === trimmed) news[0]![0] = left.start;
        else news.unshift([left.start, start, left.trimmed]);
      }
      if (right.end > end) {
        const own = news.at(-1)!;
        if (right.trimmed === trimmed) own[1] = right.end;
        else news.push([end, right.end, right.trimmed]);
      }
    }
    this.#starts.splice(first, after - first, ...news.map(([from]) => from));
    this.#ends.splice(first, after - first, ...news.map(([, to]) => to));
    this.#trimmed.splice(first, after - first, ...news.map(([, , kind]) => kind));
  }

  /** The last range that starts at or before `group`, or -1. */
  #lastFrom(group: number): number {
    let low = 0;
    let high = this.#starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#starts[middle]! <= group) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}
