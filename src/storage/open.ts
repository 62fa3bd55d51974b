// A store, opened: what the rest of the service uses of src/storage.
import type { Admission } from './admission.ts';
import type { BlobStore } from './blob-store.ts';
import type { Packing } from './chunk-encoder.ts';
import { ChunkStore } from './chunk-store.ts';
import type { OnCorrupt } from './damage.ts';
import { openLocalBlobStore } from './drivers/local.ts';
import { ensureFormat } from './format.ts';
import { Layers } from './layers.ts';
import { PageStore } from './page-store.ts';

export interface StorageOptions extends StoreOptions {
  /** The folder of the local driver, made into a store when it is empty. */
  directory: string;
  /** Objects that are written at once. */
  putConcurrency?: number | undefined;
}

export interface StoreOptions {
  /** Asked before every put; nothing is ever collected when it is not given. */
  admission?: Admission | undefined;
  /** Hears of every damaged object that a read meets. */
  onCorrupt?: OnCorrupt | undefined;
  /** How new chunks are packed. Chunks of either kind are always readable. */
  packing?: Packing | undefined;
  /** Memory for blocks that were read in part, bytes. */
  cachedBlockBytes?: number | undefined;
  /** Memory for pages of layers, bytes. */
  cachedPageBytes?: number | undefined;
}

export interface Storage extends AsyncDisposable {
  readonly blobs: BlobStore;
  readonly chunks: ChunkStore;
  readonly layers: Layers;
  readonly pages: PageStore;
  readonly storeId: string;
}

/**
 * Opens a store in a local folder. Every process, and every thread that puts or reads chunks, opens it for itself.
 * @throws StoreFormatError when it is no store that this release can use; TransientError when it is away.
 */
export async function openStorage(options: StorageOptions): Promise<Storage> {
  return openStorageOn(await openLocalBlobStore(options), options);
}

/** As openStorage, over a blob store that is open and becomes the storage's own. */
export async function openStorageOn(blobs: BlobStore, options: StoreOptions = {}): Promise<Storage> {
  try {
    const { storeId, hash } = await ensureFormat(blobs);
    const pages = new PageStore({ ...options, blobs, hash });
    return {
      blobs,
      chunks: new ChunkStore({ ...options, blobs, hash }),
      pages,
      layers: new Layers(pages),
      storeId,
      [Symbol.asyncDispose]: () => blobs[Symbol.asyncDispose](),
    };
  } catch (error) {
    await blobs[Symbol.asyncDispose]();
    throw error;
  }
}
