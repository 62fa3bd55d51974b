// A disk of real log files over a real store, and what it should hold, in plain memory.
import { randomFillSync } from 'node:crypto';
import path from 'node:path';
import { expect } from 'chai';
import type { PageAddress } from '../../../../src/storage/address.ts';
import { openLayerView } from '../../../../src/storage/layer-view.ts';
import type { Storage } from '../../../../src/storage/open.ts';
import { type FoldOptions, fold } from '../../../../src/storage/overlay/fold.ts';
import {
  type Generation,
  createGeneration,
  openSealedGeneration,
  recoverGeneration,
} from '../../../../src/storage/overlay/generation.ts';
import { type WritableOverlay, openWritableOverlay } from '../../../../src/storage/overlay/writable-overlay.ts';
import { chunkBytes } from '../../../../src/storage/sizes.ts';

export const diskId = 'disk1';

/** Bytes that differ wherever they are taken from. */
const noise = randomFillSync(Buffer.alloc(9 * 1024 * 1024));

export const bytesOf = (seed: number, length: number): Buffer => {
  const start = (seed * 4099) % (noise.length - length);
  return noise.subarray(start, start + length);
};

export interface BaseOptions {
  /** Chunk index → its bytes. */
  chunks: ReadonlyMap<number, Uint8Array>;
  /** The size of the view; zeros behind it. */
  sizeBytes: number;
}

export async function storeLayer(storage: Storage, chunks: ReadonlyMap<number, Uint8Array>): Promise<PageAddress> {
  const builder = await storage.layers.build();
  for (const [index, data] of chunks) builder.set(index, await storage.chunks.store(data));
  return builder.flush();
}

/** What attach keeps in the database: the base, the sealed generations with their lengths, the open one. */
export class OverlaidDisk implements AsyncDisposable {
  readonly sizeBytes: number;
  readonly model: Buffer;
  overlay!: WritableOverlay;
  readonly #storage: Storage;
  readonly #folder: string;
  base: PageAddress | undefined;
  #baseBytes: number;
  readonly sealed: { generation: number; lengthBytes: number }[] = [];
  generation = 0;

  constructor(
    storage: Storage,
    folder: string,
    sizeBytes: number,
    base?: { root: PageAddress; sizeBytes: number },
    model?: Buffer,
  ) {
    this.#storage = storage;
    this.#folder = folder;
    this.sizeBytes = sizeBytes;
    this.base = base?.root;
    this.#baseBytes = base?.sizeBytes ?? sizeBytes;
    this.model = model ?? Buffer.alloc(sizeBytes);
  }

  file(generation: number): string {
    return path.join(this.#folder, `${diskId}-${generation}.log`);
  }

  baseView() {
    return openLayerView(this.#storage, this.base, this.#baseBytes);
  }

  create() {
    this.generation += 1;
    return createGeneration(this.file(this.generation), { diskId, generation: this.generation }, this.sizeBytes);
  }

  openSealed(): Promise<Generation[]> {
    return Promise.all(
      this.sealed.map(({ generation, lengthBytes }) =>
        openSealedGeneration(this.file(generation), { diskId, generation }, lengthBytes),
      ),
    );
  }

  async open(): Promise<this> {
    const sealed = await this.openSealed();
    const base = await this.baseView();
    const open = await this.create();
    this.overlay = openWritableOverlay({ storage: this.#storage, base, sealed, open, sizeBytes: this.sizeBytes });
    return this;
  }

  async rotate(): Promise<void> {
    const generation = this.generation;
    await this.overlay.rotate(await this.create(), async (lengthBytes) => {
      this.sealed.push({ generation, lengthBytes });
    });
  }

  /** Ends well and opens again. */
  async reopen(): Promise<void> {
    const { lengthBytes } = await this.overlay.finish();
    this.sealed.push({ generation: this.generation, lengthBytes });
    await this.overlay[Symbol.asyncDispose]();
    await this.open();
  }

  /** Ends without a word and opens again; nothing is lost when only the process dies. */
  async crash(): Promise<void> {
    await this.overlay[Symbol.asyncDispose]();
    await this.recover();
    await this.open();
  }

  async recover(): Promise<Generation> {
    const name = { diskId, generation: this.generation };
    await using recovered = await recoverGeneration(this.file(this.generation), name);
    this.sealed.push({ generation: this.generation, lengthBytes: recovered.lengthBytes });
    return recovered;
  }

  /** Folds what is sealed and swaps the base under the living overlay. */
  async foldAll(options: Partial<FoldOptions> = {}): Promise<void> {
    const { overlay } = this;
    const through = this.sealed.at(-1)?.generation;
    if (through === undefined) return;
    const { root } = await this.foldSealed(overlay.sealed, options);
    this.base = root;
    this.#baseBytes = this.sizeBytes;
    this.sealed.length = 0;
    await overlay.rebase(await this.baseView(), through);
  }

  foldSealed(generations: readonly Generation[], options: Partial<FoldOptions> = {}) {
    return fold({
      storage: this.#storage,
      base: this.base,
      generations,
      sizeBytes: this.sizeBytes,
      signal: new AbortController().signal,
      ...options,
    });
  }

  async write(offset: number, data: Buffer, fua = false): Promise<void> {
    const written = this.overlay.write(data, offset, fua);
    data.copy(this.model, offset);
    await written;
  }

  async trim(offset: number, length: number): Promise<void> {
    this.model.fill(0, offset, offset + length);
    await this.overlay.trim(offset, length, false);
  }

  async zero(offset: number, length: number, mayTrim: boolean): Promise<void> {
    this.model.fill(0, offset, offset + length);
    await this.overlay.writeZeroes(offset, length, { fua: false, mayTrim });
  }

  /** Reads the range both ways, and compares. */
  async expectRange(offset: number, length: number): Promise<void> {
    const expected = this.model.subarray(offset, offset + length);
    const target = Buffer.alloc(length, 0xee);
    if (this.overlay.readNow(target, offset)) expectEqual(target, expected, offset);
    target.fill(0xdd);
    await this.overlay.read(target, offset);
    expectEqual(target, expected, offset);
    // Most of it is in memory now; a second answer must be the same.
    target.fill(0xcc);
    if (this.overlay.readNow(target, offset)) expectEqual(target, expected, offset);
  }

  async expectAll(): Promise<void> {
    const step = 2 * chunkBytes;
    for (let offset = 0; offset < this.sizeBytes; offset += step)
      await this.expectRange(offset, Math.min(step, this.sizeBytes - offset));
  }

  /** What is said to be zeros is zeros, and the runs fill the disk. */
  async expectExtents(maxRuns = 1000): Promise<void> {
    for (let offset = 0; offset < this.sizeBytes;) {
      const runs = await this.overlay.blockStatus(offset, this.sizeBytes - offset, maxRuns);
      expect(runs.length).to.be.within(1, maxRuns);
      for (const { length, hole, zero } of runs) {
        expect(length).to.be.greaterThan(0);
        if (hole) expect(zero).to.equal(true);
        if (zero) expect(isZero(this.model.subarray(offset, offset + length)), `zeros at ${offset}`).to.equal(true);
        offset += length;
      }
      expect(offset).to.be.at.most(this.sizeBytes);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.overlay[Symbol.asyncDispose]();
  }
}

const zeros = Buffer.alloc(1024 * 1024);

function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += zeros.length) {
    const part = bytes.subarray(at, at + zeros.length);
    if (!part.equals(zeros.subarray(0, part.length))) return false;
  }
  return true;
}

export function expectEqual(actual: Buffer, expected: Uint8Array, offset: number): void {
  if (actual.equals(expected)) return;
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  throw new Error(`byte ${offset + at} is ${actual[at]}, not ${expected[at]}`);
}
