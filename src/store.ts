// The service's blob store, opened: the folder that the settings name, if it is the one that belongs to the database.
import { availableParallelism } from 'node:os';
import path from 'node:path';
import type { Config } from './config.ts';
import type { Database } from './database.ts';
import { addSecret, readSecret } from './iam/server-secrets.ts';
import { TransientError } from './platform/errors.ts';
import { StartError } from './platform/start-error.ts';
import type { OnCorrupt } from './storage/damage.ts';
import { StoreFormatError } from './storage/format.ts';
import { openStorage, type Storage } from './storage/open.ts';

/** They verify what is read and hash what is committed; each can do about a gigabyte a second. */
const mostStorageThreads = 4;

const secretName = 'store-id';

/**
 * The store belongs to the database: images whose data lies in another folder would all be unreadable. It is made at the first start alone:
 * later a folder without it is the wrong one, or its disk is not mounted. @throws StartError
 */
export async function openStore(
  config: Config,
  database: Database,
  defaultDirectory: string,
  onCorrupt?: OnCorrupt,
): Promise<Storage & { directory: string }> {
  const directory = path.resolve(config.blobDirectory ?? defaultDirectory);
  const threads = Math.min(availableParallelism(), mostStorageThreads);
  const storeId = await readSecret(database.fork(), secretName);
  const options = { directory, storeId, onCorrupt, threads, cachedBlockBytes: config.blockCacheBytes };
  const storage = await openStorage(options).catch((error: unknown) => {
    if (error instanceof StoreFormatError) throw new StartError(error.message, { cause: error });
    if (storeId !== undefined && error instanceof TransientError) throw notIn(directory, error);
    throw error;
  });
  // Of two first starts one wins.
  if ((await addSecret(database.fork(), secretName, storage.storeId)) !== storage.storeId) {
    await storage[Symbol.asyncDispose]();
    throw notIn(directory);
  }
  return Object.assign(storage, { directory });
}

const notIn = (directory: string, cause?: TransientError): StartError =>
  new StartError(
    `the image data of this database is not in ${directory}${cause === undefined ? '' : ` (${cause.message})`}: processes that share a DATABASE_URL share one OBRAZ_BLOB_DIR; set it to the folder that the first one uses, and mount its disk`,
    { cause },
  );
