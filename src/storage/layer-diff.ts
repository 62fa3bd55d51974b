// Compares two layers by their pages. Leaves with the same address are equal and are not read, so the cost is that of what differs:
// two leaf pages for each 4 GiB that were touched.
import type { PageAddress } from './address.ts';
import type { LeafEntry, LeafPage } from './page-format.ts';
import type { PageStore } from './page-store.ts';

/**
 * Chunks of `after` that are not zeros and differ from what stands in `before` (undefined: nothing does).
 * @throws PageCorruptError when a page is damaged or missing; TransientError when the store is away; signal.reason.
 */
export async function countChanged(
  pages: PageStore,
  before: PageAddress | undefined,
  after: PageAddress,
  signal?: AbortSignal,
): Promise<number> {
  if (before === after) return 0;
  const now = await pages.root(after, signal);
  if (before === undefined) return now.chunkCount;
  const then = await pages.root(before, signal);
  let changed = 0;
  for (const [index, leaf] of now.leaves) {
    signal?.throwIfAborted();
    changed += await countInLeaf(pages, then.leaves.get(index), leaf, signal);
  }
  return changed;
}

async function countInLeaf(
  pages: PageStore,
  before: LeafEntry | undefined,
  after: LeafEntry,
  signal: AbortSignal | undefined,
): Promise<number> {
  if (before === undefined) return after.count;
  if (before.address === after.address) return 0;
  const [then, now] = await Promise.all([pages.leaf(before, signal), pages.leaf(after, signal)]);
  return countSlots(then, now);
}

function countSlots(then: LeafPage, now: LeafPage): number {
  let changed = 0;
  for (const [slot, address] of now.entries()) if (then.lookup(slot) !== address) changed += 1;
  return changed;
}
