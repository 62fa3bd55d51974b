// The memory that the indexes of all overlays of this process may take together. It is short when most of it is used: then writers seal,
// those with the largest open index first, so that commits give memory back. When it is spent, changes wait until a commit has ended;
// reads and commits never do.
//
// A writer whose own index is small is let in even then. So whoever waits can always be helped by a commit of his own disk alone, whatever
// becomes of other disks' commits: no two writers wait for each other. What is used is so bounded by maxBytes, one small index for each
// writer, what the requests under way add, and the indexes that commits have of their own, which count and wait for nothing. Numbers are
// bytes, about: those of GenerationIndex.
export interface IndexOwner {
  /** Of all generations that are not committed, and of the open one among them. */
  readonly indexBytes: number;
  readonly openIndexBytes: number;
  sealSoon(): void;
}

export interface IndexBudgetBounds {
  maxBytes: number;
  /** What a writer may have in any case. */
  smallBytes: number;
}

const MiB = 1024 * 1024;

export const defaultIndexBudget: IndexBudgetBounds = { maxBytes: 512 * MiB, smallBytes: 1 * MiB };

/** Writers are looked through this often at most. */
const relievePauseMs = 100;

export class IndexBudget {
  readonly #bounds: IndexBudgetBounds;
  readonly #owners = new Map<IndexOwner, number>();
  #usedBytes = 0;
  #relievedAtMs = -Infinity;
  #room = Promise.withResolvers<void>();
  /** When a commit was last seen to get on (performance.now). */
  movedAtMs = -Infinity;
  /** Changes that wait. */
  waiting = 0;

  constructor(bounds: Partial<IndexBudgetBounds> = {}) {
    this.#bounds = { ...defaultIndexBudget, ...bounds };
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get isSpent(): boolean {
    return this.#usedBytes > this.#bounds.maxBytes;
  }

  /** Whether changes of this owner have to wait. */
  isSpentFor(owner: IndexOwner): boolean {
    return this.isSpent && (this.#owners.get(owner) ?? 0) > this.#bounds.smallBytes;
  }

  /** Resolves when something was given back, by whomever. */
  get room(): Promise<void> {
    return this.#room.promise;
  }

  /** The owner's index may have grown. */
  note(owner: IndexOwner): void {
    const { indexBytes } = owner;
    this.#usedBytes += indexBytes - (this.#owners.get(owner) ?? 0);
    this.#owners.set(owner, indexBytes);
    this.relieve();
  }

  /** A commit has let go of generations of the owner. */
  gaveBack(owner: IndexOwner): void {
    this.note(owner);
    this.moved();
    this.#wake();
  }

  remove(owner: IndexOwner): void {
    this.#usedBytes -= this.#owners.get(owner) ?? 0;
    this.#owners.delete(owner);
    this.#wake();
  }

  /** A commit gets on. */
  moved(): void {
    this.movedAtMs = performance.now();
  }

  /** While memory is short: has so many seal that half of it is used when all that is sealed has been committed. */
  relieve(): void {
    const { maxBytes } = this.#bounds;
    if (this.#usedBytes <= (maxBytes / 4) * 3) return;
    const nowMs = performance.now();
    if (nowMs < this.#relievedAtMs + relievePauseMs) return;
    this.#relievedAtMs = nowMs;
    const open = [...this.#owners.keys()]
      .map((owner) => ({ owner, bytes: owner.openIndexBytes }))
      .filter(({ bytes }) => bytes > 0);
    let left = open.reduce((sum, { bytes }) => sum + bytes, 0);
    for (const { owner, bytes } of open.sort((a, b) => b.bytes - a.bytes)) {
      if (left <= maxBytes / 2) return;
      owner.sealSoon();
      left -= bytes;
    }
  }

  #wake(): void {
    this.#room.resolve();
    this.#room = Promise.withResolvers();
  }
}

/** Indexes that are open and belong to no writer: of a commit, of a disk that is being opened. */
export class OwnIndexes implements IndexOwner {
  readonly openIndexBytes = 0;
  readonly #generations: readonly { indexBytes: number }[];

  /** @param generations may grow afterwards */
  constructor(generations: readonly { indexBytes: number }[]) {
    this.#generations = generations;
  }

  get indexBytes(): number {
    return this.#generations.reduce((sum, { indexBytes }) => sum + indexBytes, 0);
  }

  sealSoon(): void {}
}
