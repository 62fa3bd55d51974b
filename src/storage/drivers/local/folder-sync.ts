// Makes entries of folders durable: fsync of the folder, many renames by one. The file system's journal does the same for folders that
// are synced at the same moment, so puts into different folders run side by side.
import fs from 'node:fs';
import path from 'node:path';
import { closeFile, fullSync, makeFolder, openFile, readFolder, statFile } from './file-calls.ts';
import { codeOf, isMissing } from './file-errors.ts';

/** Fewer folders are synced one by one, as they are needed. */
const fewestSyncedTogether = 16;

export class FolderSync {
  readonly #root: string;
  /** Folders whose own entries in their parents this process has made durable. */
  readonly #ensured = new Set<string>();
  readonly #entriesEnsured = new Map<string, Promise<void>>();
  readonly #rounds = new Map<string, { running: Promise<void>; next: Promise<void> | undefined }>();

  /** @param root an absolute path; it exists and is durable. */
  constructor(root: string) {
    this.#root = root;
  }

  /** Resolves when every entry that the folder has now is durable. */
  sync(folder: string): Promise<void> {
    const round = this.#rounds.get(folder);
    if (round === undefined) return this.#start(folder);
    // The sync that runs may have begun before the caller's rename: wait for the one after it, with all others who came meanwhile.
    round.next ??= round.running.then(
      () => this.#start(folder),
      () => this.#start(folder),
    );
    return round.next;
  }

  #start(folder: string): Promise<void> {
    const running = syncFolder(folder).finally(() => {
      const round = this.#rounds.get(folder);
      if (round?.running === running && round.next === undefined) this.#rounds.delete(folder);
    });
    this.#rounds.set(folder, { running, next: undefined });
    return running;
  }

  /** Makes sure that `folder`, below the root, exists and would survive a power loss, with every folder above it. */
  async ensure(folder: string): Promise<void> {
    if (folder === this.#root || this.#ensured.has(folder)) return;
    const parent = path.dirname(folder);
    await this.ensure(parent);
    await this.#ensureEntries(parent);
    if (this.#ensured.has(folder)) return;
    try {
      await makeFolder(folder, { mode: 0o700 });
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
    }
    // Also when it was there: whoever made it may have died before its own sync.
    await this.sync(parent);
    this.#ensured.add(folder);
  }

  /** All folders that are in `parent` now, by one sync: a store that exists has hundreds. */
  #ensureEntries(parent: string): Promise<void> {
    const known = this.#entriesEnsured.get(parent);
    if (known !== undefined) return known;
    const ensuring = this.#syncEntries(parent).then((folders) => {
      // Else one of them turned out to be missing meanwhile.
      if (this.#entriesEnsured.get(parent) === ensuring) for (const folder of folders) this.#ensured.add(folder);
    });
    this.#entriesEnsured.set(parent, ensuring);
    ensuring.catch(() => this.#entriesEnsured.delete(parent));
    return ensuring;
  }

  async #syncEntries(parent: string): Promise<string[]> {
    const entries = await readFolder(parent, { withFileTypes: true });
    const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => path.join(parent, name));
    if (folders.length < fewestSyncedTogether) return [];
    await this.sync(parent);
    return folders;
  }

  /** A folder turned out to be missing. */
  forget(): void {
    this.#ensured.clear();
    this.#entriesEnsured.clear();
  }
}

async function syncFolder(folder: string): Promise<void> {
  const descriptor = await openFile(folder, fs.constants.O_RDONLY, 0);
  try {
    await fullSync(descriptor);
  } catch (error) {
    // A few network and user-space file systems cannot sync a folder, and write its entries at once.
    if (codeOf(error) !== 'EINVAL' && codeOf(error) !== 'ENOTSUP') throw error;
  } finally {
    await closeFile(descriptor);
  }
}

/** Creates an absolute folder and what is missing above it; durable. @throws what mkdir says when something else is in the way */
export async function makeDurableFolder(folder: string, { hasParent = false } = {}): Promise<void> {
  const parent = path.dirname(folder);
  try {
    await makeFolder(folder, { mode: 0o700 });
  } catch (error) {
    // A link that leads nowhere exists, too.
    if (codeOf(error) === 'EEXIST' && (await statFile(folder)).isDirectory()) return;
    if (!isMissing(error) || hasParent) throw error;
    await makeDurableFolder(parent);
    return makeDurableFolder(folder, { hasParent: true });
  }
  await syncFolder(parent);
}

/** Folders below `root`, which is there; durable, by one sync for all that lie in the same one. */
export async function makeDurableFolders(root: string, folders: readonly string[]): Promise<void> {
  const paths = folders.map((folder) => path.join(root, folder));
  const parents = new Set(paths.map((folder) => path.dirname(folder)));
  for (const parent of parents) await makeDurableFolder(parent);
  await Promise.all(
    paths.map((folder) =>
      makeFolder(folder, { mode: 0o700 }).catch((error: unknown) => {
        if (codeOf(error) !== 'EEXIST') throw error;
      }),
    ),
  );
  await Promise.all(Array.from(parents, syncFolder));
}
