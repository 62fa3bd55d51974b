// What garbage collection asks of a database. The collector (gc.ts) decides what to delete; the ledger remembers what is condemned and
// keeps collectors and writers apart. The writers' side is admission.ts: one implementation serves both.
import type { PageAddress } from './address.ts';

/** One condemnation of an object. An object that is withdrawn and condemned again has another. */
export interface Condemned {
  /** Blob key of a chunk or page. */
  key: string;
  condemnation: string;
}

export interface Ledger {
  /**
   * Roots of all layers that are in use: rows of images, snapshots and disks in every state, pins and checkpoints of all jobs that
   * have not ended, bases of overlays. All from one snapshot of the database that is not older than the call: a root that moves
   * from one row to another meanwhile must be seen in one of them.
   */
  roots(signal?: AbortSignal): AsyncIterable<PageAddress>;

  /**
   * Condemns the objects that are not condemned yet, in a committed transaction; after its commit notes, for these and for condemnations
   * that a dead collector left without a note, which writers are registered. In that order: a writer that asks for admission
   * before the commit is registered and so is noted; one that asks after it withdraws the condemnation.
   * @returns how many were not condemned before.
   */
  condemn(keys: readonly string[], signal?: AbortSignal): Promise<number>;

  /**
   * Condemnations whose noted writers have all ended and that nobody claims; those among them that a dead collector had claimed may be
   * deleted already. From one snapshot that is not older than the call.
   */
  expired(signal?: AbortSignal): AsyncIterable<Condemned>;

  /** Withdraws these condemnations, where they still stand and are not claimed: their objects are in use again. */
  withdraw(condemned: readonly Condemned[], signal?: AbortSignal): Promise<void>;

  /** Claims those of these condemnations that still stand and that nobody else has claimed. */
  claim(condemned: readonly Condemned[], signal?: AbortSignal): Promise<Claim>;
}

/**
 * Objects that this collector alone may delete. Puts of them wait. A claim belongs to the owner's database session, and ends with it:
 * a stopped process keeps its session, so it does not wake up to delete what others have written since.
 *
 * Disposing gives back what was not settled: it stays condemned. What was begun and not settled may still be deleted by a request under
 * way, so it stays claimed for as long as a delete can take; the same holds when the session ends.
 */
export interface Claim extends AsyncDisposable {
  readonly keys: readonly string[];

  /**
   * Called right before the delete of a key. The implementation knows by its own monotonic clock how long ago the database confirmed the
   * session, and is sooner to doubt it than others are to take the claim over.
   * @throws Error when the claim may have ended.
   */
  begin(key: string): void;

  /** The objects are deleted and forgotten: puts of them go on, and write them anew. */
  settle(keys: readonly string[]): Promise<void>;
}
