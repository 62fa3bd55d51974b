// Random requests to a disk, by a seed alone: small and large, aligned and not, to places that are written often and to others.
import { randomFrom } from '../sample.ts';
import type { Request } from './connection.ts';
import { type Change, sectorBytes, sectorsOf } from './disk-bytes.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const noiseBytes = 4 * MiB;

export class Random {
  readonly #next: () => number;
  readonly #noise: Buffer;
  #stamp = 0;

  constructor(seed: number) {
    this.#next = randomFrom(seed);
    this.#noise = Buffer.alloc(2 * noiseBytes);
    for (let at = 0; at < this.#noise.length; at += 4) this.#noise.writeUInt32LE(this.#next() * 2 ** 32, at);
  }

  /** In [0, limit). */
  integer(limit: number): number {
    return Math.floor(this.#next() * limit);
  }

  chance(probability: number): boolean {
    return this.#next() < probability;
  }

  pick<T>(all: readonly T[]): T {
    if (all.length === 0) throw new Error('there is nothing to pick from');
    return all[this.integer(all.length)]!;
  }

  /** No two of them share a sector: in whichever order they happen, the result is one. */
  requests(sizeBytes: number, most: number): Request[] {
    const taken = new Set<number>();
    const chosen: Request[] = [];
    for (let count = 1 + this.integer(most); count > 0; count -= 1) {
      const each = this.chance(0.15) ? this.#read(sizeBytes) : this.change(sizeBytes);
      const sectors = sectorsOf(each);
      if (sectors.some((sector) => taken.has(sector))) continue;
      for (const sector of sectors) taken.add(sector);
      chosen.push(each);
    }
    return chosen;
  }

  change(sizeBytes: number): Change {
    const fua = this.chance(0.1);
    const roll = this.#next();
    if (roll < 0.12) return { kind: 'trim', fua, ...this.#range(sizeBytes, 2 * MiB) };
    if (roll < 0.24) return { kind: 'writeZeroes', fua, noHole: this.chance(0.5), ...this.#range(sizeBytes, 2 * MiB) };
    const range = this.#range(sizeBytes, roll < 0.3 ? 4 * MiB : roll < 0.4 ? 512 * KiB : 64 * KiB);
    return { kind: 'write', fua, ...range, data: this.#data(range.length) };
  }

  #read(sizeBytes: number): Request {
    return { kind: 'read', ...this.#range(sizeBytes, 512 * KiB) };
  }

  #range(sizeBytes: number, most: number): { offset: number; length: number } {
    // Every other request goes where others go, across the edge of a chunk.
    const isHot = this.chance(0.5);
    const from = isHot && sizeBytes > 4 * MiB ? 4 * MiB - 256 * KiB : 0;
    const room = isHot ? Math.min(512 * KiB, sizeBytes - from) : sizeBytes;
    const unit = this.chance(0.75) ? sectorBytes : this.pick([1, 512]);
    if (this.chance(0.03)) return { offset: Math.max(0, sizeBytes - 4 * MiB), length: Math.min(4 * MiB, sizeBytes) };
    const offset = from + Math.floor(this.integer(room) / unit) * unit;
    const length = Math.ceil((1 + this.integer(Math.min(most, unit === sectorBytes ? most : 3 * sectorBytes))) / unit) * unit;
    return { offset, length: Math.min(length, sizeBytes - offset) };
  }

  #data(length: number): Buffer {
    const roll = this.#next();
    if (roll < 0.1) return Buffer.alloc(length);
    // What is stored already is not stored again.
    if (roll < 0.25) return Buffer.alloc(length, 0x5a);
    const start = this.integer(this.#noise.length - noiseBytes);
    const data = Buffer.from(this.#noise.subarray(start, start + length));
    this.#stamp += 1;
    for (let at = 0; at + 4 <= length; at += sectorBytes) data.writeUInt32LE(this.#stamp, at);
    return data;
  }
}
