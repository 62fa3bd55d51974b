// Where tests of storage keep their objects.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { TransientError } from '../../../../src/platform/errors.ts';
import type { BlobStore } from '../../../../src/storage/blob-store.ts';
import { openLocalBlobStore } from '../../../../src/storage/drivers/local.ts';
import { memoryBlobStore } from '../../../../src/storage/drivers/memory.ts';
import type { BlobPlace, SharedPlace } from '../../../contract/blob-store.contract.ts';

export interface Folder extends AsyncDisposable {
  readonly path: string;
}

export async function temporaryFolder(): Promise<Folder> {
  const folder = await mkdtemp(path.join(tmpdir(), 'obraz-storage-'));
  return { path: folder, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
}

export type Decorate = (store: BlobStore) => BlobStore;

const plain: Decorate = (store) => store;

export async function localPlace(decorate: Decorate = plain): Promise<SharedPlace> {
  const folder = await temporaryFolder();
  const directory = path.join(folder.path, 'deep', 'store');
  return {
    directory,
    open: async () => decorate(await openLocalBlobStore({ directory })),
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

export async function memoryPlace(decorate: Decorate = plain): Promise<BlobPlace> {
  const objects = new Map<string, Uint8Array>();
  return { open: async () => decorate(memoryBlobStore(objects)), async [Symbol.asyncDispose]() {} };
}

/** Fails calls with a TransientError before or after they had their effect, as `random` (in [0, 1)) says. */
export function flaky(store: BlobStore, probability: number, random: () => number): BlobStore {
  const may = async <T>(call: () => Promise<T>): Promise<T> => {
    if (random() < probability / 2) throw new TransientError('before');
    const answer = await call();
    if (random() < probability / 2) throw new TransientError('after');
    return answer;
  };
  return {
    put: (key, parts, options) => may(() => store.put(key, parts, options)),
    get: (key, range, options) => may(() => store.get(key, range, options)),
    stat: (key) => may(() => store.stat(key)),
    delete: (key) => may(() => store.delete(key)),
    async *list(prefix) {
      let left = random() < probability ? Math.floor(random() * 100) : Infinity;
      for await (const entry of store.list(prefix)) {
        if (left === 0) throw new TransientError('listing');
        left -= 1;
        yield entry;
      }
    },
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

/** Counts the calls that reach the store, by method. */
export function counting(store: BlobStore): { store: BlobStore; counts: Record<'put' | 'get' | 'stat' | 'delete', number> } {
  const counts = { put: 0, get: 0, stat: 0, delete: 0 };
  return {
    counts,
    store: {
      put: (...call) => ((counts.put += 1), store.put(...call)),
      get: (...call) => ((counts.get += 1), store.get(...call)),
      stat: (...call) => ((counts.stat += 1), store.stat(...call)),
      delete: (...call) => ((counts.delete += 1), store.delete(...call)),
      list: (prefix) => store.list(prefix),
      [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    },
  };
}
