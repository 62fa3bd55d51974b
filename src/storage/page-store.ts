// Pages in a blob store: verified against their address when they are read, kept parsed in a bounded cache.
import type { Address, PageAddress } from './address.ts';
import type { Admission } from './admission.ts';
import { type BlobStore, BlobNotFoundError } from './blob-store.ts';
import { CorruptMarks, Damage, type OnCorrupt, PageCorruptError, asDamage } from './damage.ts';
import { Deposit } from './deposit.ts';
import { type HashAlgorithm, sha256 } from './hash-algorithm.ts';
import { Lru } from './lru.ts';
import {
  LeafPage,
  type LeafEntry,
  type RootPage,
  leafPageBytes,
  maxRootPageBytes,
  pageAddress,
  parseRootPage,
} from './page-format.ts';
import { pageKey } from './paths.ts';
import { untilAborted } from '../platform/until-aborted.ts';

export interface PageStoreOptions {
  blobs: BlobStore;
  hash?: HashAlgorithm | undefined;
  admission?: Admission | undefined;
  onCorrupt?: OnCorrupt | undefined;
  /** Pages that are kept, bytes; a leaf of 4 GiB has 33 kB at most. */
  cachedPageBytes?: number | undefined;
}

export class PageStore {
  readonly #blobs: BlobStore;
  readonly #hash: HashAlgorithm;
  readonly #marks: CorruptMarks;
  readonly #deposit: Deposit;
  readonly #pages: Lru<Page>;
  readonly #underWay = new Map<string, Promise<Page>>();

  constructor(options: PageStoreOptions) {
    this.#blobs = options.blobs;
    this.#hash = options.hash ?? sha256;
    this.#marks = new CorruptMarks(options.blobs, options.onCorrupt ?? (() => undefined));
    this.#pages = new Lru(options.cachedPageBytes ?? 16 * 1024 * 1024, (page) => page.weight);
    const parts = { blobs: options.blobs, marks: this.#marks, admission: options.admission };
    this.#deposit = new Deposit('pages', parts, (address) => this.#looksWhole(address));
  }

  address(page: Uint8Array): PageAddress {
    return pageAddress(this.#hash, page);
  }

  /** Durable when it resolves. @throws TransientError when the store is full or away. */
  async put(page: Uint8Array, signal?: AbortSignal): Promise<PageAddress> {
    const address = this.address(page);
    await this.#deposit.put({ address, parts: [page] }, { signal });
    return address;
  }

  /** @throws PageCorruptError when the page is damaged or missing; TransientError when the store is away. */
  async leaf({ address, count }: LeafEntry, signal?: AbortSignal): Promise<LeafPage> {
    const { content } = await this.#page(address, () => this.#read(address, leafPageBytes(count), parseLeaf), signal);
    if (!(content instanceof LeafPage) || content.count !== count)
      throw new PageCorruptError(address, 'it is not the leaf that the root means');
    return content;
  }

  /** @throws as leaf */
  async root(address: PageAddress, signal?: AbortSignal): Promise<RootPage> {
    const { content } = await this.#page(address, () => this.#readRoot(address), signal);
    if (content instanceof LeafPage) throw new PageCorruptError(address, 'it is a leaf, not a root');
    return content;
  }

  /**
   * Reads and verifies a page past the cache. @returns its size; undefined when there is no such page.
   * @throws PageCorruptError when it is damaged, or missing though `required`; TransientError when the store is away.
   */
  async verify(address: PageAddress, required = false): Promise<number | undefined> {
    return this.#twice(address, async () => {
      if (!required && (await this.#blobs.stat(pageKey(address))) === undefined) return undefined;
      return (await this.#verified(address, await this.#sizeOf(address), true)).length;
    });
  }

  async #page(address: PageAddress, read: () => Promise<Page>, signal: AbortSignal | undefined): Promise<Page> {
    const known = this.#pages.get(address);
    if (known !== undefined) return known;
    let underWay = this.#underWay.get(address);
    if (underWay === undefined) {
      underWay = read()
        .then((page) => {
          this.#pages.set(address, page);
          return page;
        })
        .finally(() => this.#underWay.delete(address));
      this.#underWay.set(address, underWay);
    }
    return untilAborted(underWay, signal);
  }

  #read(address: PageAddress, sizeBytes: number, parse: (bytes: Uint8Array) => Page): Promise<Page> {
    return this.#twice(address, async (fresh) => parse(await this.#verified(address, sizeBytes, fresh)));
  }

  #readRoot(address: PageAddress): Promise<Page> {
    return this.#twice(address, async (fresh) => parseRoot(await this.#verified(address, await this.#sizeOf(address), fresh)));
  }

  /** Bounded before anything is allocated. */
  async #sizeOf(address: PageAddress): Promise<number> {
    const stat = await this.#blobs.stat(pageKey(address));
    if (stat === undefined) throw new BlobNotFoundError(pageKey(address));
    if (stat.sizeBytes > maxRootPageBytes) throw new Damage('it is too long for a page');
    return stat.sizeBytes;
  }

  async #verified(address: PageAddress, sizeBytes: number, fresh: boolean): Promise<Uint8Array> {
    const bytes = await this.#blobs.get(pageKey(address), { offset: 0, length: sizeBytes }, { fresh });
    if (pageAddress(this.#hash, bytes) !== address) throw new Damage('it does not match its address');
    return bytes;
  }

  async #twice<T>(address: PageAddress, read: (fresh: boolean) => Promise<T>): Promise<T> {
    try {
      return await read(false);
    } catch (error) {
      if (asDamage(error) === undefined) throw error;
    }
    try {
      return await read(true);
    } catch (error) {
      const damage = asDamage(error);
      if (damage === undefined) throw error;
      this.#pages.delete(address);
      await this.#marks.report('pages', address, damage);
      throw new PageCorruptError(address, damage.message);
    }
  }

  /** Pages are small: before one is relied upon it is read whole. */
  async #looksWhole(address: Address): Promise<boolean> {
    try {
      await this.#verified(address as PageAddress, await this.#sizeOf(address as PageAddress), true);
      return true;
    } catch (error) {
      if (asDamage(error) === undefined) throw error;
      return false;
    }
  }
}

interface Page {
  content: LeafPage | RootPage;
  /** Bytes, about. */
  weight: number;
}

const parseLeaf = (bytes: Uint8Array): Page => ({ content: new LeafPage(bytes), weight: bytes.length + 512 });

/** An entry of a parsed root is an object with a string: about four times what is stored. */
const parseRoot = (bytes: Uint8Array): Page => ({ content: parseRootPage(bytes), weight: bytes.length * 4 + 512 });
