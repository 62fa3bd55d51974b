// Layers: immutable sparse maps from chunk index to chunk address, as trees of two levels (page-format.ts). Copying a layer is copying
// its root's address; changing one chunk writes two pages.
import type { ChunkAddress, PageAddress } from './address.ts';
import { LayerBuilder } from './layer-builder.ts';
import { countChanged } from './layer-diff.ts';
import type { LeafPage, RootPage } from './page-format.ts';
import type { PageStore } from './page-store.ts';
import { assertChunkIndex, chunksPerLeaf, maxLeaves } from './sizes.ts';

export { LayerBuilder } from './layer-builder.ts';

export class Layers {
  readonly #pages: PageStore;

  constructor(pages: PageStore) {
    this.#pages = pages;
  }

  /** @throws PageCorruptError when the root page is damaged or missing; TransientError when the store is away. */
  async open(root: PageAddress, signal?: AbortSignal): Promise<Layer> {
    return new Layer(root, await this.#pages.root(root, signal), this.#pages);
  }

  /** Begins a layer, empty or as the layer `base`, which the caller keeps from being collected meanwhile. @throws as open */
  async build(base?: PageAddress, signal?: AbortSignal): Promise<LayerBuilder> {
    const root = base === undefined ? undefined : await this.#pages.root(base, signal);
    return new LayerBuilder(this.#pages, root?.leaves);
  }

  /** Chunks of `root` that are not zeros and differ from those of `before`. @throws as open */
  countChanged(before: PageAddress | undefined, root: PageAddress, signal?: AbortSignal): Promise<number> {
    return countChanged(this.#pages, before, root, signal);
  }

  /**
   * Every object that the layer needs, pages before what they lead to; a chunk or page that stands in it twice comes twice.
   * @param skipPage asked for every leaf page: when true, neither it nor its chunks are answered (they were seen before).
   * @throws as open, when a page is damaged: what lies below it is then unknown.
   */
  async *reachable(
    root: PageAddress,
    options: { skipPage?: (page: PageAddress) => boolean; signal?: AbortSignal } = {},
  ): AsyncGenerator<Reachable> {
    yield { kind: 'pages', address: root };
    const { leaves } = await this.#pages.root(root, options.signal);
    for (const leaf of leaves.values()) {
      options.signal?.throwIfAborted();
      if (options.skipPage?.(leaf.address)) continue;
      yield { kind: 'pages', address: leaf.address };
      for (const [, address] of (await this.#pages.leaf(leaf, options.signal)).entries()) yield { kind: 'chunks', address };
    }
  }
}

export type Reachable = { kind: 'pages'; address: PageAddress } | { kind: 'chunks'; address: ChunkAddress };

export class Layer {
  readonly root: PageAddress;
  /** Chunks that are not zero; times 4 MiB it is the storage_size of an image. */
  readonly chunkCount: number;
  readonly #page: RootPage;
  readonly #pages: PageStore;

  /** By Layers.open. */
  constructor(root: PageAddress, page: RootPage, pages: PageStore) {
    this.root = root;
    this.chunkCount = page.chunkCount;
    this.#page = page;
    this.#pages = pages;
  }

  /** The address of chunk `index`, or undefined when its bytes are zeros. @throws as Layers.open; RangeError for no index. */
  async lookup(index: number, signal?: AbortSignal): Promise<ChunkAddress | undefined> {
    assertChunkIndex(index);
    const leaf = this.#page.leaves.get(Math.floor(index / chunksPerLeaf));
    return leaf && (await this.#pages.leaf(leaf, signal)).lookup(index % chunksPerLeaf);
  }

  /** The end of the run of chunks from `index` on that are zeros by the root page alone: `index` itself when that cannot be said. */
  zerosUntil(index: number): number {
    let leaf = Math.floor(index / chunksPerLeaf);
    if (this.#page.leaves.has(leaf)) return index;
    while (leaf < maxLeaves && !this.#page.leaves.has(leaf)) leaf += 1;
    return leaf * chunksPerLeaf;
  }

  /** The chunks that are not zero, ascending, from index `from` on. @throws as Layers.open */
  async *entries(from = 0, signal?: AbortSignal): AsyncGenerator<[index: number, address: ChunkAddress]> {
    for (const [leafIndex, leaf] of this.#page.leaves) {
      const first = leafIndex * chunksPerLeaf;
      if (first + chunksPerLeaf <= from) continue;
      const page: LeafPage = await this.#pages.leaf(leaf, signal);
      for (const [slot, address] of page.entries(Math.max(0, from - first))) yield [first + slot, address];
    }
  }
}
