// Finds sequential readers among the reads of one view, and says what to fetch before they ask. Several may be under way at once, and
// requests of one may arrive a little out of order.

interface Stream {
  /** Where the next read is expected. */
  next: number;
  /** Reads that went on where the one before had ended. */
  hits: number;
  /** Up to where bytes were fetched ahead. */
  fetchedTo: number;
  windowBytes: number;
}

const maxStreams = 8;
/** A read this close to where it is expected belongs to the stream. */
const slackBytes = 512 * 1024;
/** Reads in a row that make a stream. */
const hitsNeeded = 3;
const firstWindowBytes = 1024 * 1024;
const lastWindowBytes = 8 * 1024 * 1024;

export class ReadAhead {
  /** What was used last comes first. */
  readonly #streams: Stream[] = [];
  readonly #fetch: (offset: number, end: number) => void;
  readonly #sizeBytes: number;

  /** @param fetch begins to fetch [offset, end); must not throw. */
  constructor(sizeBytes: number, fetch: (offset: number, end: number) => void) {
    this.#sizeBytes = sizeBytes;
    this.#fetch = fetch;
  }

  /** @param isMiss a read that had to wait may be the first of a stream; others only go on with one. */
  saw(offset: number, length: number, isMiss: boolean): void {
    for (let index = 0; index < this.#streams.length; index += 1) {
      const stream = this.#streams[index]!;
      if (offset < stream.next - slackBytes || offset > stream.next + slackBytes) continue;
      if (index > 0) {
        this.#streams.splice(index, 1);
        this.#streams.unshift(stream);
      }
      this.#goOn(stream, offset + length);
      return;
    }
    if (!isMiss) return;
    this.#streams.unshift({ next: offset + length, hits: 0, fetchedTo: 0, windowBytes: firstWindowBytes });
    if (this.#streams.length > maxStreams) this.#streams.pop();
  }

  #goOn(stream: Stream, end: number): void {
    if (end > stream.next) {
      stream.next = end;
      stream.hits += 1;
    }
    if (stream.hits < hitsNeeded || stream.fetchedTo - stream.next >= stream.windowBytes / 2) return;
    const from = Math.max(stream.fetchedTo, stream.next);
    const to = Math.min(stream.next + stream.windowBytes, this.#sizeBytes);
    stream.fetchedTo = to;
    stream.windowBytes = Math.min(stream.windowBytes * 2, lastWindowBytes);
    if (from < to) this.#fetch(from, to);
  }
}
