// The guest's view of a layer for the hot path: what is in memory is answered at once, without a promise; the rest is fetched, verified
// and kept in the storage's block cache, and what a sequential reader wants next is fetched ahead of it.
import type { PageAddress } from './address.ts';
import type { Extent } from './extents.ts';
import type { Storage } from './open.ts';

/** Verified bytes at any offset, zeros in the holes. Safe to use concurrently; costs nothing to drop. */
export interface LayerView {
  /** The guest's size, bytes. What the layer holds beyond it is not readable. */
  readonly sizeBytes: number;

  /**
   * Fills `target` when all of it is in memory: true. False: nothing can be said of what is in `target`, use `read`.
   * @throws RangeError outside of the view.
   */
  readNow(target: Uint8Array, offset: number): boolean;

  /**
   * Fills `target`. Nothing writes into it after the promise has settled.
   * @throws DomainError DATA_LOSS where stored data is damaged; TransientError when the store is away; signal.reason; RangeError.
   */
  read(target: Uint8Array, offset: number, signal?: AbortSignal): Promise<void>;

  /**
   * Runs from `offset` on, in order, at most `maxRuns` and at least one; together at most `length`, perhaps less. Holes are chunks and
   * blocks that are not stored. @throws as read; `length` and `maxRuns` are at least 1.
   */
  extents(offset: number, length: number, maxRuns: number, signal?: AbortSignal): Promise<Extent[]>;
}

/**
 * @param root undefined for a disk of zeros.
 * @throws PageCorruptError (DATA_LOSS) when the root page is damaged; TransientError when the store is away.
 */
export function openLayerView(
  _storage: Storage,
  _root: PageAddress | undefined,
  _sizeBytes: number,
  _signal?: AbortSignal,
): Promise<LayerView> {
  return Promise.reject(new Error('not built yet'));
}
