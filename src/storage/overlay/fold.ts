// Commits generations to a new layer: every chunk that they touch is read from the base, patched and stored; the others are shared.
import { Semaphore } from '../../platform/semaphore.ts';
import type { ChunkAddress, PageAddress } from '../address.ts';
import { type Admission, admitAll } from '../admission.ts';
import { ChunkBuffer } from '../chunk-encoder.ts';
import type { ChunkStore } from '../chunk-store.ts';
import type { Layer, LayerBuilder } from '../layers.ts';
import type { Storage } from '../open.ts';
import { mostFoldsAtOnce } from '../threads/storage-threads.ts';
import { type ChunkPatch, foldChunk } from './fold-chunk.ts';
import { listedChunks, patchOf, touchedChunks } from './fold-plan.ts';
import type { Generation } from './generation.ts';
import { sectorState } from './generation-index.ts';

export interface FoldOptions {
  storage: Storage;
  /** Asked before every put: the caller is a registered writer (storage/admission.ts). Nothing is ever collected when not given. */
  admission?: Admission | undefined;
  /** The layer below, undefined for zeros. The caller keeps it from being collected. */
  base: PageAddress | undefined;
  /** Sealed, ascending. They stay open and are only read; an overlay may read them at the same time. */
  generations: readonly Generation[];
  /** The disk's size; what the layer held beyond it is kept as it is. */
  sizeBytes: number;
  /** Where an earlier attempt over the same base and generations had come to. */
  resume?: FoldCheckpoint | undefined;
  /**
   * Told every few seconds: the root is durable and holds all that lies below `nextIndex`. The caller keeps it from being collected; the
   * fold waits for the promise.
   */
  onCheckpoint?: ((checkpoint: FoldCheckpoint) => Promise<void>) | undefined;
  onProgress?: ((progress: FoldProgress) => void) | undefined;
  /** Chunks that are under way at once, 4 MiB of memory each. Default: as many as the storage's threads take, or 2 without them. */
  concurrency?: number | undefined;
  /** Between two checkpoints, default 5 s. */
  checkpointMs?: number | undefined;
  signal: AbortSignal;
}

export interface FoldCheckpoint {
  root: PageAddress;
  /** The first chunk index that is still to be done. */
  nextIndex: number;
}

export interface FoldProgress {
  chunksDone: number;
  /** Chunks that are touched; grows when a trim meets chunks of the base. */
  chunksTotal: number;
}

export interface Folded {
  /** Durable, with all below it. */
  root: PageAddress;
  chunksStored: number;
  /** Chunks that became zeros, or were already. */
  chunksZero: number;
}

/**
 * @throws DomainError DATA_LOSS where a log or the base is damaged; TransientError when the store is full or away; signal.reason.
 * What was stored until then is garbage for the collector, or the next attempt's.
 */
export async function fold(options: FoldOptions): Promise<Folded> {
  const { generations, base } = options;
  if (generations.length > maxGenerations) throw new RangeError(`a fold takes at most ${maxGenerations} generations`);
  // Pages are put for the caller as a writer, chunks too.
  const { layers, chunks } = options.storage.asWriter(options.admission ?? admitAll);
  const baseLayer = base === undefined ? undefined : await layers.open(base, options.signal);
  const builder = await layers.build(options.resume?.root ?? base, options.signal);
  using folder = folderOf(options, chunks);
  return await new Folding(options, baseLayer, builder, folder).run();
}

interface Folder extends Disposable {
  fold(base: ChunkAddress | undefined, patch: ChunkPatch, signal: AbortSignal): Promise<ChunkAddress | undefined>;
}

function folderOf({ storage, generations, admission = admitAll }: FoldOptions, chunks: ChunkStore): Folder {
  const titled = generations.map(({ name, file, descriptor }) => ({
    file,
    descriptor,
    title: `generation ${name.generation} of disk ${name.diskId}`,
  }));
  if (storage.threads !== undefined)
    return storage.threads.openFold(
      titled.map(({ file, title }) => ({ file, title })),
      admission,
    );
  const free: ChunkBuffer[] = [];
  return {
    async fold(base, patch, signal) {
      const buffer = free.pop() ?? new ChunkBuffer();
      try {
        return await foldChunk(chunks, buffer, base, patch, titled, { signal });
      } finally {
        free.push(buffer);
      }
    },
    [Symbol.dispose]() {},
  };
}

class Folding {
  readonly #options: FoldOptions;
  readonly #base: Layer | undefined;
  readonly #builder: LayerBuilder;
  readonly #folder: Folder;
  readonly #listed: readonly number[];
  readonly #progress: FoldProgress;
  #stored = 0;
  /** Done since the last checkpoint. */
  #chunksSince = 0;
  #checkpointAt: number;

  constructor(options: FoldOptions, base: Layer | undefined, builder: LayerBuilder, folder: Folder) {
    this.#options = options;
    this.#base = base;
    this.#builder = builder;
    this.#folder = folder;
    this.#listed = listedChunks(options.generations);
    const from = options.resume?.nextIndex ?? 0;
    this.#progress = { chunksDone: this.#listed.filter((index) => index < from).length, chunksTotal: this.#listed.length };
    this.#checkpointAt = performance.now() + this.#checkpointMs;
  }

  get #checkpointMs(): number {
    return this.#options.checkpointMs ?? 5_000;
  }

  async run(): Promise<Folded> {
    const { generations, resume, signal } = this.#options;
    const { concurrency = this.#options.storage.threads === undefined ? 2 : mostFoldsAtOnce } = this.#options;
    const turns = new Semaphore(concurrency);
    const running = new Set<Promise<void>>();
    const errors: unknown[] = [];
    let zero = 0;
    const foldInTurn = async (index: number, release: () => void): Promise<void> => {
      try {
        if ((await this.#foldOne(index)) === undefined) zero += 1;
      } catch (error) {
        errors.push(error);
      } finally {
        release();
      }
    };
    try {
      for await (const index of touchedChunks(generations, this.#listed, this.#base, resume?.nextIndex ?? 0, signal)) {
        await this.#builder.drained(signal);
        if (this.#isCheckpointDue()) {
          await Promise.all(running);
          if (errors.length === 0) await this.#checkpoint(index);
        }
        const release = await turns.acquire(signal);
        if (errors.length > 0) break;
        const one = foldInTurn(index, release).finally(() => running.delete(one));
        running.add(one);
      }
    } finally {
      await Promise.all(running);
    }
    if (errors.length > 0) throw errors[0];
    return { root: await this.#builder.flush(signal), chunksStored: this.#stored, chunksZero: zero };
  }

  async #foldOne(index: number): Promise<ChunkAddress | undefined> {
    const { generations, signal } = this.#options;
    signal.throwIfAborted();
    const patch = patchOf(generations, index);
    const isZero = patch.positions.every((position) => position === sectorState.zeros || position === sectorState.trimmed);
    const before = await this.#base?.lookup(index, signal);
    const address = isZero ? undefined : await this.#folder.fold(before, patch, signal);
    if (address !== undefined) this.#stored += 1;
    this.#builder.set(index, address);
    this.#chunksSince += 1;
    this.#progress.chunksDone += 1;
    this.#progress.chunksTotal = Math.max(this.#progress.chunksTotal, this.#progress.chunksDone);
    this.#options.onProgress?.({ ...this.#progress });
    return address;
  }

  #isCheckpointDue(): boolean {
    const { onCheckpoint } = this.#options;
    return onCheckpoint !== undefined && this.#chunksSince > 0 && performance.now() >= this.#checkpointAt;
  }

  /** All chunks below `nextIndex` are done. */
  async #checkpoint(nextIndex: number): Promise<void> {
    const { onCheckpoint, signal } = this.#options;
    await onCheckpoint!({ root: await this.#builder.flush(signal), nextIndex });
    this.#chunksSince = 0;
    this.#checkpointAt = performance.now() + this.#checkpointMs;
  }
}

const maxGenerations = 4096;
