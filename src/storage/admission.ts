/**
 * What a writer asks before it relies on an address, so that garbage collection is safe against writers that find an old, unreferenced
 * object and skip their put. The protocol, of which this is the writers' side (the collector's are gc.ts and ledger.ts):
 *
 * 1. A writer registers before its first put, and its registration ends when what it made is referenced by a row, a checkpoint or
 *    an overlay, or is given up. The commit that makes the reference is refused when the registration has ended.
 * 2. The collector condemns objects that nothing reaches, in a transaction, and notes after its commit which writers are registered.
 * 3. Before every put, whether the object exists or not, the writer asks here:
 *      'fresh'    the object is not condemned: an existing one may be relied upon, a missing one is written;
 *      'rewrite'  it was condemned, and the condemnation is withdrawn now, in a committed transaction: the object is written anew
 *                 with `replace` even if it seems to exist.
 *    An object that a collector has claimed for deletion makes the answer wait, bounded, until the claim is settled or its owner's
 *    database session is gone.
 * 4. An object is deleted only when it is still condemned, every writer that was noted has ended, and it is still unreachable
 *    after that; then it is claimed, deleted, settled.
 *
 * Why that is safe: a writer is registered before it asks. A condemnation that was committed before the question is withdrawn by it; one
 * that was committed after it notes the writer, waits for its end, and then sees the reference that the writer made, or none.
 *
 * Chunks and pages alike: objects are named by their blob keys. Answers come in the order of the keys. Called from worker threads too,
 * and often: an implementation batches the calls of one moment into one query.
 * @throws TransientError when a claim did not end in time or the database is away: then nothing may be relied upon.
 */
export type Admission = (objects: readonly string[], signal?: AbortSignal) => Promise<readonly Admitted[]>;

export type Admitted = 'fresh' | 'rewrite';

/** For stores that nothing is ever collected from. */
export const admitAll: Admission = (objects) => Promise.resolve(objects.map(() => 'fresh'));
