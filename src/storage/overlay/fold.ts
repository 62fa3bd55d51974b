// Commits generations to a new layer: every chunk that they touch is read from the base, patched and stored; the others are shared.
import type { PageAddress } from '../address.ts';
import type { Admission } from '../admission.ts';
import type { Storage } from '../open.ts';
import type { Generation } from './generation.ts';

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
  /** Chunks that are under way at once, 4 MiB of memory each. Default 2. */
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
export function fold(_options: FoldOptions): Promise<Folded> {
  return Promise.reject(new Error('not built yet'));
}
