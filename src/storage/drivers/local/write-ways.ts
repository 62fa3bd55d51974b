// Which way a big object goes to the disk: directly (O_DIRECT), which costs half the CPU, or through the page cache, which on some
// disks is nearly twice as fast, because the system hands them larger pieces of it (measured: 4 against 10 requests for 4 MiB, at a device
// that lets pass so many requests a second). Which disk it is cannot be asked: so both are tried, and tried again now and then.

export type Way = 'direct' | 'cached';

/** Puts of each way before one is preferred. */
const firstTries = 6;
/** One put in so many goes the other way. */
const retryEvery = 32;
/** The page cache must be so much faster: what it saves in time it costs in CPU and in others' pages. */
const advantage = 1.2;
/** A way is as fast as the median of its newest puts: one that was held up says nothing. */
const remembered = 7;

export class WriteWays {
  readonly #tries: Record<Way, number> = { direct: 0, cached: 0 };
  /** Milliseconds per byte, the newest last. */
  readonly #newest: Readonly<Record<Way, number[]>> = { direct: [], cached: [] };
  #sinceOther = 0;

  /** For the next object. */
  next(): Way {
    const { direct, cached } = this.#tries;
    if (direct < firstTries || cached < firstTries) return this.#try(direct <= cached ? 'direct' : 'cached');
    const preferred: Way = this.#pace('cached') * advantage < this.#pace('direct') ? 'cached' : 'direct';
    this.#sinceOther += 1;
    if (this.#sinceOther < retryEvery) return preferred;
    this.#sinceOther = 0;
    return preferred === 'direct' ? 'cached' : 'direct';
  }

  #try(way: Way): Way {
    this.#tries[way] += 1;
    return way;
  }

  /** What a put took until it was durable. */
  took(way: Way, bytes: number, ms: number): void {
    const newest = this.#newest[way];
    newest.push(ms / bytes);
    if (newest.length > remembered) newest.shift();
  }

  /** NaN while nothing is known. */
  #pace(way: Way): number {
    const sorted = this.#newest[way].toSorted((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  }
}
