// Reads a format's tables lazily, in pieces, and keeps the last used ones. A walk asks for pieces in guest order; those that it will
// ask for next are read ahead, several at once and neighbours together, because the file may be 10 ms away.
// Memory: at most `maxBytes` for kept pieces and as much again for each walk that is under way (one piece at least).
import { type ByteSource, readBytes } from '../platform/byte-source.ts';

/** A part of a table: bytes [at, at + length) of the file. `index` names it, unique in the image. */
export interface TablePiece {
  index: number;
  at: number;
  length: number;
}

export interface LoadedPiece {
  index: number;
  bytes: Uint8Array;
}

/** Pieces that lie this close in the file are read together. */
const mergeGapBytes = 4096;
const maxReadBytes = 1024 * 1024;
/** Reads ahead of a walk: more than a range reader has connections, so that none of them idles. */
const maxPending = 64;

export class TableCache {
  readonly #source: ByteSource;
  readonly #maxBytes: number;
  /** Least recently used first. */
  readonly #kept = new Map<number, Uint8Array>();
  #keptBytes = 0;

  constructor(source: ByteSource, maxBytes: number) {
    this.#source = source;
    this.#maxBytes = maxBytes;
  }

  /** Loads the pieces in the order of `wanted`, which is drawn from lazily. @throws what the source throws; signal.reason when aborted. */
  async *inOrder(wanted: Iterator<TablePiece>, signal?: AbortSignal): AsyncGenerator<LoadedPiece> {
    const left = new AbortController();
    const readSignal = signal === undefined ? left.signal : AbortSignal.any([signal, left.signal]);
    const pending: { piece: TablePiece; bytes: Uint8Array | Promise<Uint8Array> }[] = [];
    let pendingBytes = 0;
    let isDrained = false;

    const readAhead = (): void => {
      const missing: TablePiece[] = [];
      const places = new Map<number, (typeof pending)[number]>();
      while (!isDrained && pending.length < maxPending && (pending.length === 0 || pendingBytes < this.#maxBytes)) {
        const next = wanted.next();
        if (next.done === true) {
          isDrained = true;
          break;
        }
        const piece = next.value;
        const kept = this.#kept.get(piece.index);
        const place = { piece, bytes: kept ?? emptyBytes };
        pending.push(place);
        pendingBytes += piece.length;
        if (kept === undefined) {
          missing.push(piece);
          places.set(piece.index, place);
        }
      }
      for (const group of grouped(missing)) {
        const read = readBytes(this.#source, group.at, group.length, readSignal);
        for (const piece of group.pieces) {
          const bytes = read.then((all) => all.slice(piece.at - group.at, piece.at - group.at + piece.length));
          // The walk may end before it comes to this piece; it throws when the walk takes it.
          bytes.catch(() => undefined);
          places.get(piece.index)!.bytes = bytes;
        }
      }
    };

    try {
      while (true) {
        signal?.throwIfAborted();
        // Refilled in batches, so that neighbours are there to be read together.
        if (pending.length <= maxPending / 2 && pendingBytes <= this.#maxBytes / 2) readAhead();
        const place = pending.shift();
        if (place === undefined) return;
        pendingBytes -= place.piece.length;
        const bytes = await place.bytes;
        this.#keep(place.piece.index, bytes);
        yield { index: place.piece.index, bytes };
      }
    } finally {
      left.abort();
    }
  }

  #keep(index: number, bytes: Uint8Array): void {
    const known = this.#kept.get(index);
    if (known !== undefined) {
      this.#kept.delete(index);
      this.#keptBytes -= known.length;
    }
    this.#kept.set(index, bytes);
    this.#keptBytes += bytes.length;
    for (const [oldest, { length }] of this.#kept) {
      if (this.#keptBytes <= this.#maxBytes || oldest === index) break;
      this.#kept.delete(oldest);
      this.#keptBytes -= length;
    }
  }
}

const emptyBytes = new Uint8Array(0);

/** Pieces that are neighbours in the file, as reads of bounded size. */
function* grouped(pieces: TablePiece[]): Generator<{ at: number; length: number; pieces: TablePiece[] }> {
  let group: { at: number; length: number; pieces: TablePiece[] } | undefined;
  for (const piece of pieces.sort((a, b) => a.at - b.at)) {
    const end = piece.at + piece.length;
    if (group !== undefined && piece.at - (group.at + group.length) <= mergeGapBytes && end - group.at <= maxReadBytes) {
      group.length = Math.max(group.length, end - group.at);
      group.pieces.push(piece);
    } else {
      if (group !== undefined) yield group;
      group = { at: piece.at, length: piece.length, pieces: [piece] };
    }
  }
  if (group !== undefined) yield group;
}
