// Collects the runs that tables describe, in guest order, into extents: neighbours that can be one become one, and all is clipped to
// the window that was asked for. Every decoder fills one; none of them computes a guest offset or a clip itself.
import type { Codec, Extent } from './disk-image.ts';

export class ExtentRun {
  readonly #from: number;
  readonly #to: number;
  #position: number;
  #open: Extent | undefined;
  #ready: Extent[] = [];

  /** Runs will come from guest offset `position` on; extents are made for [from, to) alone. */
  constructor(position: number, from: number, to: number) {
    this.#position = position;
    this.#from = from;
    this.#to = to;
  }

  /** The guest offset that the next run starts at. */
  get position(): number {
    return this.#position;
  }

  zero(length: number): void {
    const start = Math.max(this.#position, this.#from);
    const end = Math.min(this.#position + length, this.#to);
    this.#position += length;
    if (start >= end) return;
    if (this.#open?.kind === 'zero') this.#open.length += end - start;
    else this.#begin({ kind: 'zero', offset: start, length: end - start });
  }

  /** `length` bytes stored at file offset `at`. */
  raw(length: number, at: number): void {
    const start = Math.max(this.#position, this.#from);
    const end = Math.min(this.#position + length, this.#to);
    const fileAt = at + (start - this.#position);
    this.#position += length;
    if (start >= end) return;
    if (this.#open?.kind === 'raw' && this.#open.at + this.#open.length === fileAt) this.#open.length += end - start;
    else this.#begin({ kind: 'raw', offset: start, length: end - start, at: fileAt });
  }

  /** `length` bytes of a file that ends at `fileBytes`: what lies past the end reads as zeros. */
  rawClipped(length: number, at: number, fileBytes: number): void {
    const stored = Math.max(0, Math.min(length, fileBytes - at));
    if (stored > 0) this.raw(stored, at);
    if (stored < length) this.zero(length - stored);
  }

  /** One whole unit of `unitLength` guest bytes. */
  packed(unit: { at: number; packedLength: number; codec: Codec; unitLength: number; minUnitLength?: number }): void {
    const start = Math.max(this.#position, this.#from);
    const end = Math.min(this.#position + unit.unitLength, this.#to);
    const skip = start - this.#position;
    this.#position += unit.unitLength;
    if (start < end) this.#begin({ kind: 'packed', offset: start, length: end - start, skip, ...unit });
  }

  /** The extents that nothing to come can change; each is answered once. */
  take(): Extent[] {
    const ready = this.#ready;
    this.#ready = [];
    return ready;
  }

  /** All that is left, at the end. */
  finish(): Extent[] {
    if (this.#open !== undefined) this.#ready.push(this.#open);
    this.#open = undefined;
    return this.take();
  }

  #begin(extent: Extent): void {
    if (this.#open !== undefined) this.#ready.push(this.#open);
    this.#open = extent;
  }
}
