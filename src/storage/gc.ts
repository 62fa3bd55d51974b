// Garbage collection: the only thing that deletes chunks and pages. What nothing reaches is condemned in one run and deleted in a later
// one, once every writer has ended that may have relied on it (admission.ts tells the protocol, ledger.ts who keeps it). The order of
// the steps of a run carries the proof; do not change it:
//
//   1. which condemnations have outlived their writers     before 2, so that 2 sees what those writers left
//   2. the roots, from one snapshot; all that they reach
//   3. condemned and reached → withdrawn; condemned and not reached → claimed, deleted, settled
//   4. stored and not reached → condemned, for the next run
//
// A run may be stopped or killed anywhere, and several may run at once. A page that cannot be read ends the run before it deletes
// anything: what lies below it is unknown.
import { setTimeout as sleep } from 'node:timers/promises';
import { AddressSet } from './address-set.ts';
import type { BlobStore } from './blob-store.ts';
import type { Layers } from './layers.ts';
import type { Claim, Condemned, Ledger } from './ledger.ts';
import { corruptMarkKey, objectKinds, objectPrefix, parseObjectKey } from './paths.ts';
import { settleAll } from '../platform/until-aborted.ts';

export interface CollectOptions {
  blobs: BlobStore;
  layers: Layers;
  ledger: Ledger;
  /** Only counts: nothing is condemned, withdrawn or deleted. */
  dryRun?: boolean | undefined;
  /** Objects that are deleted per second at most. */
  deletesPerSecond?: number | undefined;
  onProgress?: ((progress: Collected & { phase: CollectPhase }) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export type CollectPhase = 'mark' | 'sweep' | 'condemn';

export interface Collected {
  roots: number;
  /** Distinct objects that the roots reach. */
  reachable: number;
  /** Objects that a root needs and that the listing did not show: lost, or deleted with their root while it ran. */
  missing: number;
  stored: number;
  storedBytes: number;
  /** Condemned now; in a dry run, what would be. */
  condemned: number;
  condemnedBytes: number;
  /** Deleted now; in a dry run, what would be. */
  deleted: number;
  withdrawn: number;
}

export const nothingCollected = (): Collected => ({
  roots: 0,
  reachable: 0,
  missing: 0,
  stored: 0,
  storedBytes: 0,
  condemned: 0,
  condemnedBytes: 0,
  deleted: 0,
  withdrawn: 0,
});

/** Claims are small: puts of claimed objects wait for them. */
const claimedAtOnce = 64;
const deletesAtOnce = 4;
const condemnedAtOnce = 1000;

/** One run. @throws PageCorruptError when a page in use is damaged; TransientError when store or database are away; signal.reason. */
export async function collectGarbage(options: CollectOptions): Promise<Collected> {
  const { ledger, signal } = options;
  const run = new Run(options);
  const expired: Condemned[] = [];
  for await (const condemned of ledger.expired(signal)) expired.push(condemned);
  await run.mark();
  await run.sweep(expired);
  await run.condemn(new Set(expired.map(({ key }) => key)));
  return run.collected;
}

class Run {
  readonly #options: CollectOptions;
  readonly #reached = new AddressSet();
  readonly collected = nothingCollected();

  constructor(options: CollectOptions) {
    this.#options = options;
  }

  async mark(): Promise<void> {
    const { ledger, layers, signal } = this.#options;
    for await (const root of ledger.roots(signal)) {
      this.collected.roots += 1;
      if (this.#reached.has(root)) continue;
      // A leaf page that was seen was walked to its end, or the run has failed.
      const skipPage = this.#reached.has.bind(this.#reached);
      for await (const { address } of layers.reachable(root, { skipPage, ...(signal && { signal }) })) this.#reached.add(address);
      this.collected.reachable = this.#reached.size;
      this.#tell('mark');
    }
  }

  async sweep(expired: readonly Condemned[]): Promise<void> {
    const { ledger, dryRun, signal } = this.#options;
    const inUse = expired.filter(({ key }) => this.#isReached(key));
    const unused = expired.filter(({ key }) => !this.#isReached(key));
    if (dryRun) {
      this.collected.withdrawn = inUse.length;
      this.collected.deleted = unused.length;
      return;
    }
    for (const batch of batches(inUse, condemnedAtOnce)) {
      await ledger.withdraw(batch, signal);
      this.collected.withdrawn += batch.length;
    }
    for (const batch of batches(unused, claimedAtOnce)) {
      signal?.throwIfAborted();
      const startedAt = performance.now();
      await this.#delete(batch);
      this.#tell('sweep');
      const { deletesPerSecond } = this.#options;
      if (deletesPerSecond !== undefined) await pauseUntil(startedAt + (batch.length / deletesPerSecond) * 1000, signal);
    }
  }

  async #delete(condemned: readonly Condemned[]): Promise<void> {
    const claim = await this.#options.ledger.claim(condemned, this.#options.signal);
    try {
      await this.#deleteClaimed(claim);
    } catch (error) {
      // What cannot be given back now ends with the session; the first error is the one that tells why.
      await Promise.resolve(claim[Symbol.asyncDispose]()).catch(() => undefined);
      throw error;
    }
    await claim[Symbol.asyncDispose]();
  }

  async #deleteClaimed(claim: Claim): Promise<void> {
    const { blobs } = this.#options;
    for (const keys of batches(claim.keys, deletesAtOnce)) {
      await settleAll(
        keys.map(async (key) => {
          claim.begin(key);
          await blobs.delete(key);
        }),
      );
      // A mark speaks of an object that is no more. Marks are advice, so their order does not matter.
      await settleAll(keys.map((key) => blobs.delete(corruptMarkKey(key))));
      await claim.settle(keys);
      this.collected.deleted += keys.length;
    }
  }

  async condemn(known: ReadonlySet<string>): Promise<void> {
    const { blobs, ledger, dryRun, signal } = this.#options;
    let batch: string[] = [];
    let reachedAndStored = 0;
    const flush = async () => {
      const keys = batch;
      batch = [];
      if (keys.length > 0 && !dryRun) this.collected.condemned += await ledger.condemn(keys, signal);
      else this.collected.condemned += keys.length;
    };
    for (const kind of objectKinds)
      for await (const { key, sizeBytes } of blobs.list(objectPrefix(kind))) {
        signal?.throwIfAborted();
        if (parseObjectKey(key) === undefined) continue;
        this.collected.stored += 1;
        this.collected.storedBytes += sizeBytes;
        if (this.collected.stored % condemnedAtOnce === 0) this.#tell('condemn');
        if (this.#isReached(key)) {
          reachedAndStored += 1;
          continue;
        }
        if (known.has(key)) continue;
        this.collected.condemnedBytes += sizeBytes;
        batch.push(key);
        if (batch.length < condemnedAtOnce) continue;
        await flush();
      }
    await flush();
    this.collected.missing = Math.max(0, this.#reached.size - reachedAndStored);
    this.#tell('condemn');
  }

  #isReached(key: string): boolean {
    const object = parseObjectKey(key);
    return object !== undefined && this.#reached.has(object.address);
  }

  #tell(phase: CollectPhase): void {
    this.#options.onProgress?.({ ...this.collected, phase });
  }
}

function* batches<T>(items: readonly T[], length: number): Generator<T[]> {
  for (let start = 0; start < items.length; start += length) yield items.slice(start, start + length);
}

async function pauseUntil(time: number, signal: AbortSignal | undefined): Promise<void> {
  const ms = time - performance.now();
  if (ms <= 0) return;
  try {
    await sleep(ms, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    throw signal?.aborted ? signal.reason : error;
  }
}
