// The service's blob store, opened: the folder that the settings name, if it is the one that belongs to the database.
import { availableParallelism } from 'node:os';
import path from 'node:path';
import type { Config } from './config.ts';
import type { Database } from './database.ts';
import { addSecret } from './iam/server-secrets.ts';
import { StartError } from './platform/start-error.ts';
import type { OnCorrupt } from './storage/damage.ts';
import { StoreFormatError } from './storage/format.ts';
import { openStorage, type Storage } from './storage/open.ts';

/** They verify what is read and hash what is committed; each can do about a gigabyte a second. */
const mostStorageThreads = 4;

/** The store belongs to the database: images whose data lies in another folder would all be unreadable. @throws StartError */
export async function openStore(
  config: Config,
  database: Database,
  defaultDirectory: string,
  onCorrupt?: OnCorrupt,
): Promise<Storage & { directory: string }> {
  const directory = path.resolve(config.blobDirectory ?? defaultDirectory);
  const threads = Math.min(availableParallelism(), mostStorageThreads);
  const storage = await openStorage({ directory, onCorrupt, threads, cachedBlockBytes: config.blockCacheBytes }).catch(
    (error: unknown) => {
      if (error instanceof StoreFormatError) throw new StartError(error.message, { cause: error });
      throw error;
    },
  );
  const expected = await addSecret(database.fork(), 'store-id', storage.storeId);
  if (expected !== storage.storeId) {
    await storage[Symbol.asyncDispose]();
    throw new StartError(
      `the image data of this database is not in ${directory}: processes that share a DATABASE_URL share one OBRAZ_BLOB_DIR; set it to the folder that the first one uses`,
    );
  }
  return Object.assign(storage, { directory });
}
