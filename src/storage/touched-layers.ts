// Which layers damaged and missing objects lie in: what a scrub wants to know after it has read everything. Every page is read once,
// however many layers share it; what is remembered of a page is 24 to 48 bytes, unless there is damage in it.
import { AddressSet } from './address-set.ts';
import type { Address, PageAddress } from './address.ts';
import type { BlobStore } from './blob-store.ts';
import { PageCorruptError } from './damage.ts';
import type { LeafEntry } from './page-format.ts';
import type { PageStore } from './page-store.ts';
import { type ObjectKind, objectKey } from './paths.ts';

export interface TouchedOptions {
  blobs: BlobStore;
  pages: PageStore;
  /** All layers in use; each once. */
  roots: AsyncIterable<PageAddress>;
  /** Keys of objects that are known to be damaged. */
  damaged: ReadonlySet<string>;
  /** Whether the object was there a short while ago; what was not is looked for. */
  wasListed: (address: Address) => boolean;
  /** Objects whose layers are told at most: a store that is lost must not fill the memory. */
  maxObjects: number;
  signal?: AbortSignal | undefined;
}

export interface Touched {
  /** By key, ascending: the roots of the layers that need the object. Damaged ones that nothing needs have an empty list. */
  layers: Map<string, PageAddress[]>;
  /** Keys of objects that are needed and not there, or were found damaged on the way. */
  found: Set<string>;
  roots: number;
}

/** @throws TransientError when the store is away; signal.reason. */
export async function findTouchedLayers(options: TouchedOptions): Promise<Touched> {
  const walk = new Walk(options);
  let roots = 0;
  for await (const root of options.roots) {
    options.signal?.throwIfAborted();
    roots += 1;
    for (const key of await walk.hurtIn(root)) walk.note(key, root);
  }
  const layers = new Map([...walk.layers].sort(([a], [b]) => (a < b ? -1 : 1)));
  return { layers, found: walk.found, roots };
}

class Walk {
  readonly layers: Map<string, PageAddress[]>;
  readonly found = new Set<string>();
  readonly #options: TouchedOptions;
  readonly #whole = new AddressSet();
  /** What is wrong in and below the leaf pages where something is. */
  readonly #hurtLeaves = new Map<PageAddress, readonly string[]>();
  readonly #present = new AddressSet();

  constructor(options: TouchedOptions) {
    this.#options = options;
    this.layers = new Map([...options.damaged].slice(0, options.maxObjects).map((key) => [key, []]));
  }

  note(key: string, root: PageAddress): void {
    const roots = this.layers.get(key);
    if (roots !== undefined) roots.push(root);
    else if (this.layers.size < this.#options.maxObjects) this.layers.set(key, [root]);
  }

  /** Keys of the objects of one layer that are damaged or missing. What lies below a page that cannot be read is unknown. */
  async hurtIn(root: PageAddress): Promise<ReadonlySet<string>> {
    const { pages, signal } = this.#options;
    const key = objectKey('pages', root);
    if (await this.#isHurt('pages', root)) return new Set([key]);
    const hurt = new Set<string>();
    try {
      const { leaves } = await pages.root(root, signal);
      for (const leaf of leaves.values()) {
        signal?.throwIfAborted();
        for (const inLeaf of await this.#hurtBelow(leaf)) hurt.add(inLeaf);
      }
    } catch (error) {
      hurt.add(this.#foundBy(error));
    }
    return hurt;
  }

  async #hurtBelow(leaf: LeafEntry): Promise<readonly string[]> {
    if (this.#whole.has(leaf.address)) return [];
    const known = this.#hurtLeaves.get(leaf.address);
    if (known !== undefined) return known;
    const hurt = await this.#readLeaf(leaf);
    if (hurt.length === 0) this.#whole.add(leaf.address);
    else this.#hurtLeaves.set(leaf.address, hurt);
    return hurt;
  }

  async #readLeaf(leaf: LeafEntry): Promise<string[]> {
    if (await this.#isHurt('pages', leaf.address)) return [objectKey('pages', leaf.address)];
    const hurt = new Set<string>();
    try {
      for (const [, address] of (await this.#options.pages.leaf(leaf, this.#options.signal)).entries())
        if (await this.#isHurt('chunks', address)) hurt.add(objectKey('chunks', address));
    } catch (error) {
      hurt.add(this.#foundBy(error));
    }
    return [...hurt];
  }

  async #isHurt(kind: ObjectKind, address: Address): Promise<boolean> {
    const { damaged, wasListed, blobs } = this.#options;
    const key = objectKey(kind, address);
    if (damaged.has(key) || this.found.has(key)) return true;
    if (wasListed(address) || this.#present.has(address)) return false;
    if ((await blobs.stat(key)) !== undefined) {
      this.#present.add(address);
      return false;
    }
    this.found.add(key);
    return true;
  }

  /** The key of the page that could not be read. @throws any other error. */
  #foundBy(error: unknown): string {
    if (!(error instanceof PageCorruptError)) throw error;
    const key = objectKey(error.finding.kind, error.finding.address);
    this.found.add(key);
    return key;
  }
}
