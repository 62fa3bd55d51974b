// The parts of the service for commands that work without serving: the data folder, held alone, with database and store.
import path from 'node:path';
import type { EntityManager } from '@mikro-orm/postgresql';
import type { Config } from './config.ts';
import { openDatabase } from './database.ts';
import type { BootstrapIds } from './iam/bootstrap.ts';
import { openDataFolder } from './platform/data-folder.ts';
import { createLog } from './platform/log.ts';
import type { Storage } from './storage/open.ts';
import { openStore } from './store.ts';

export interface WithoutServing extends AsyncDisposable {
  readonly url: string;
  readonly ids: BootstrapIds;
  readonly fork: () => EntityManager;
  /** Opened when it is first asked for. */
  storage(): Promise<Storage>;
}

/**
 * Brings the database to this version's schema.
 * @throws DataFolderInUse when a service runs on the data folder; StartError for what else an operator can mend.
 */
export async function openWithoutServing(config: Config, signal: AbortSignal): Promise<WithoutServing> {
  await using undo = new AsyncDisposableStack();
  const folder = undo.use(await openDataFolder(config.dataDirectory));
  const database = undo.use(await openDatabase(config, folder.path, createLog({ level: config.logLevel }), signal));
  const stack = undo.move();
  return {
    url: database.url,
    ids: database.ids,
    fork: () => database.fork(),
    storage: async () => stack.use(await openStore(config, database, path.join(folder.path, 'blobs'))),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}
