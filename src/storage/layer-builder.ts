// Makes a layer: changes are collected by leaf in memory, leaves are written as pages, the root last. It can be flushed again and again,
// for the checkpoints of an import.
import { Semaphore } from '../platform/semaphore.ts';
import type { ChunkAddress, PageAddress } from './address.ts';
import { type LeafEntry, encodeLeafPage, encodeRootPage } from './page-format.ts';
import type { PageStore } from './page-store.ts';
import { assertChunkIndex, chunksPerLeaf } from './sizes.ts';
import { settleAll } from '../platform/until-aborted.ts';

/** What changes in one leaf: slot → address, or undefined where the chunk became zeros. */
type Changes = Map<number, ChunkAddress | undefined>;

/** With more changed leaves than this, the ones that changed first are written while others are set: 64 leaves cover 256 GiB. */
const maxChangedLeaves = 64;
const writesAtOnce = 4;

export class LayerBuilder {
  readonly #pages: PageStore;
  /** The leaves as they are written. */
  readonly #leaves: Map<number, LeafEntry>;
  /** What is set but not written, by leaf index, oldest leaf first. */
  #changed = new Map<number, Changes>();
  /** Spills and flushes run one after another: each reads the leaves that the one before has written. */
  #turn: Promise<unknown> = Promise.resolve();
  #mayNotSpill = false;

  /** By Layers.build. */
  constructor(pages: PageStore, leaves: ReadonlyMap<number, LeafEntry> = new Map()) {
    this.#pages = pages;
    this.#leaves = new Map(leaves);
  }

  /**
   * Sets a chunk that is durable already, or undefined for zeros. Memory stays bounded when calls come no faster than chunks are stored;
   * a caller that is faster awaits `drained` now and then. @throws RangeError for no index.
   */
  set(index: number, address: ChunkAddress | undefined): void {
    assertChunkIndex(index);
    const leafIndex = Math.floor(index / chunksPerLeaf);
    let changes = this.#changed.get(leafIndex);
    if (changes === undefined) {
      changes = new Map();
      this.#changed.set(leafIndex, changes);
    }
    changes.set(index % chunksPerLeaf, address);
    if (this.#changed.size > maxChangedLeaves && !this.#mayNotSpill) this.#spillInBackground();
  }

  /** Resolves when at most 64 changed leaves are held in memory. @throws TransientError when pages cannot be written. */
  async drained(signal?: AbortSignal): Promise<void> {
    while (this.#changed.size > maxChangedLeaves) await this.#inTurn(() => this.#spill(signal));
  }

  /**
   * The root of all that was set before the call, durable with every page below. What is set during the call may miss it. After an
   * error nothing is lost: a later flush writes it. @throws TransientError when pages cannot be written; signal.reason when aborted.
   */
  flush(signal?: AbortSignal): Promise<PageAddress> {
    return this.#inTurn(async () => {
      const changed = this.#changed;
      this.#changed = new Map();
      await this.#write(changed, signal);
      const root = await this.#pages.put(encodeRootPage(this.#leaves), signal);
      this.#mayNotSpill = false;
      return root;
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  #spillInBackground(): void {
    this.#mayNotSpill = true;
    this.#inTurn(() => this.#spill()).then(
      () => (this.#mayNotSpill = false),
      // What could not be written is still here; the next flush writes it, or says why not.
      () => undefined,
    );
  }

  async #spill(signal?: AbortSignal): Promise<void> {
    const oldest = new Map([...this.#changed].slice(0, maxChangedLeaves / 2));
    for (const leafIndex of oldest.keys()) this.#changed.delete(leafIndex);
    await this.#write(oldest, signal);
  }

  async #write(changed: Map<number, Changes>, signal: AbortSignal | undefined): Promise<void> {
    const writes = new Semaphore(writesAtOnce);
    try {
      await settleAll(
        Array.from(changed, async ([leafIndex, changes]) => {
          const release = await writes.acquire(signal);
          try {
            await this.#writeLeaf(leafIndex, changes, signal);
            changed.delete(leafIndex);
          } finally {
            release();
          }
        }),
      );
    } catch (error) {
      // Back to the rest; what was set meanwhile is newer.
      for (const [leafIndex, changes] of changed)
        this.#changed.set(leafIndex, new Map([...changes, ...(this.#changed.get(leafIndex) ?? [])]));
      throw error;
    }
  }

  async #writeLeaf(leafIndex: number, changes: Changes, signal: AbortSignal | undefined): Promise<void> {
    const written = this.#leaves.get(leafIndex);
    const entries = new Map(written === undefined ? [] : (await this.#pages.leaf(written, signal)).entries());
    for (const [slot, address] of changes) {
      if (address === undefined) entries.delete(slot);
      else entries.set(slot, address);
    }
    if (entries.size === 0) {
      this.#leaves.delete(leafIndex);
      return;
    }
    const page = encodeLeafPage(entries);
    const isSame = written !== undefined && this.#pages.address(page) === written.address;
    if (!isSame) this.#leaves.set(leafIndex, { count: entries.size, address: await this.#pages.put(page, signal) });
  }
}
