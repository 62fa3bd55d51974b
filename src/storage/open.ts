// A store, opened: what the rest of the service uses of src/storage.
import { untilAborted } from '../platform/until-aborted.ts';
import type { ChunkAddress } from './address.ts';
import type { Admission } from './admission.ts';
import type { BlobStore } from './blob-store.ts';
import type { Packing } from './chunk-encoder.ts';
import { ChunkStore } from './chunk-store.ts';
import type { OnCorrupt } from './damage.ts';
import { openLocalBlobStore } from './drivers/local.ts';
import { ensureFormat, expectFormat } from './format.ts';
import { Layers } from './layers.ts';
import { PageStore } from './page-store.ts';
import { chunkFolders } from './paths.ts';
import { BlockCache } from './reading/block-cache.ts';
import { ChunkCache, type FetchBlocks } from './reading/chunk-cache.ts';
import { StorageThreads } from './threads/storage-threads.ts';

export interface StorageOptions extends StoreOptions {
  /** The folder of the local driver, made into a store when it is empty. */
  directory: string;
  /** Objects that are written at once. */
  putConcurrency?: number | undefined;
  /** Threads that verify blocks for views of layers and fold overlays, started when they are needed. Default 0: this thread does it. */
  threads?: number | undefined;
}

export interface StoreOptions {
  /** The store that it must be, for those that open one again: none is made then. */
  storeId?: string | undefined;
  /** Asked before every put; nothing is ever collected when it is not given. */
  admission?: Admission | undefined;
  /** Hears of every damaged object that a read meets. */
  onCorrupt?: OnCorrupt | undefined;
  /** How new chunks are packed. Chunks of either kind are always readable. */
  packing?: Packing | undefined;
  /** As in ChunkStoreOptions. */
  warm?: boolean | undefined;
  /** As in ChunkStoreOptions: for the store of a thread that has nothing else to do. */
  blockingReads?: boolean | undefined;
  /** Memory for verified blocks, shared by all views of layers and overlays, bytes; default 256 MiB, taken as it is used. */
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
  /** What views of layers read through. */
  readonly cache: ChunkCache;
  /** As ChunkStore.verify, by the threads where there are some: it takes milliseconds of hashing. */
  verifyChunk(address: ChunkAddress, signal?: AbortSignal, required?: boolean): Promise<number | undefined>;
  /** Undefined: this thread does what they would do. */
  readonly threads: StorageThreads | undefined;
  /** The same store for a writer of its own: `admission` is asked before its puts. */
  asWriter(admission: Admission): Pick<Storage, 'chunks' | 'layers' | 'pages'>;
}

/** Telling a thread of fewer blocks, and hearing of it, takes longer than verifying them here does. */
const fewestThreadedBlocks = 4;

const defaultCachedBlockBytes = 256 * 1024 * 1024;

/**
 * Opens a store in a local folder. Every process, and every thread that puts or reads chunks, opens it for itself.
 * @throws StoreFormatError when it is no store that this release can use; TransientError when it is away.
 */
export async function openStorage(options: StorageOptions): Promise<Storage> {
  const { directory, putConcurrency, storeId } = options;
  const create = storeId === undefined;
  const blobs = await openLocalBlobStore({ directory, putConcurrency, create, folders: create ? chunkFolders : [] });
  try {
    return await build(blobs, options, options);
  } catch (error) {
    await blobs[Symbol.asyncDispose]();
    throw error;
  }
}

/** As openStorage, over a blob store that is open; it becomes the storage's own when this succeeds. */
export async function openStorageOn(blobs: BlobStore, options: StoreOptions = {}): Promise<Storage> {
  return build(blobs, options, undefined);
}

async function build(blobs: BlobStore, options: StoreOptions, local: StorageOptions | undefined): Promise<Storage> {
  const { storeId, hash } =
    options.storeId === undefined ? await ensureFormat(blobs) : await expectFormat(blobs, options.storeId);
  const { cachedBlockBytes = defaultCachedBlockBytes, ...rest } = options;
  const parts = (admission: Admission | undefined): Pick<Storage, 'chunks' | 'layers' | 'pages'> => {
    const pages = new PageStore({ ...rest, admission, blobs, hash });
    return { pages, chunks: new ChunkStore({ ...rest, admission, blobs, hash }), layers: new Layers(pages) };
  };
  const { pages, chunks, layers } = parts(options.admission);
  const blocks = new BlockCache(cachedBlockBytes);
  const threads = local?.threads ? new StorageThreads({ ...local, storeId, threads: local.threads }, blocks) : undefined;
  const fetchHere: FetchBlocks = (address, first, slots, checks) =>
    chunks.readBlocks(
      address,
      first,
      slots.map((slot) => slot.bytes),
      checks,
    );
  const fetch: FetchBlocks = (address, first, slots, checks) =>
    threads === undefined || slots.length < fewestThreadedBlocks
      ? fetchHere(address, first, slots, checks)
      : threads.read(address, first, slots, checks);
  return {
    blobs,
    chunks,
    pages,
    layers,
    storeId,
    cache: new ChunkCache(blocks, chunks, fetch),
    threads,
    verifyChunk: async (address, signal, required = false) => {
      signal?.throwIfAborted();
      if (threads === undefined) return chunks.verify(address, signal, required);
      return untilAborted(threads.verify(address, required), signal);
    },
    asWriter: parts,
    async [Symbol.asyncDispose]() {
      await threads?.[Symbol.asyncDispose]();
      await blobs[Symbol.asyncDispose]();
    },
  };
}
