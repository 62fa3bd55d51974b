// Objects as files below one folder; a key is the file's path. Several processes and threads may share the folder, also over a
// network file system that keeps POSIX's promises: nothing here depends on state in memory.
//
// A put: write a temporary file → fdatasync → link it under its key (or rename over it, for `replace`) → fsync the folder. Big objects in page-aligned memory
// go to the disk directly (O_DIRECT) unless that is the slower way here, others through the page cache. Measurements: docs/decisions/003-layout.md.
import fs from 'node:fs';
import path from 'node:path';
import { exists } from '../../platform/durable-file.ts';
import { TransientError } from '../../platform/errors.ts';
import { Semaphore } from '../../platform/semaphore.ts';
import { assertBlobKey, assertBlobPrefix, assertBlobRange, isKeySegment } from '../blob-key.ts';
import { BlobNotFoundError, type BlobRange, type BlobStore, type GetOptions, type PutOptions } from '../blob-store.ts';
import { forgetAligned, isPageAligned } from '../page-aligned.ts';
import { formatKey } from '../paths.ts';
import {
  closeFile,
  dataSync,
  linkFile,
  openFile,
  readFolder,
  readFully,
  readVectorsFully,
  readVectorsSync,
  renameFile,
  statFile,
  unlinkFile,
  writeFully,
} from './local/file-calls.ts';
import { codeOf, isMissing, storeError } from './local/file-errors.ts';
import { FolderSync, makeDurableFolder, makeDurableFolders } from './local/folder-sync.ts';
import { OpenFiles } from './local/open-files.ts';
import { removeStaleTemps, tempFolder, tempName } from './local/temp-files.ts';
import { WriteWays } from './local/write-ways.ts';

export interface LocalBlobStoreOptions {
  /** Plain data, so that threads can open the store too. */
  directory: string;
  /** Whether a folder that is missing is made. Default: yes. Whoever opens it again must not: below a disk that is not mounted it is away. */
  create?: boolean | undefined;
  /** Folders below the root that are made now, so that no put has to. */
  folders?: readonly string[] | undefined;
  /** Puts at once: of those some write, and some wait until what they wrote is durable. Four keep a fast disk busy. */
  putConcurrency?: number | undefined;
  /** Files that stay open for reading. */
  openFiles?: number | undefined;
}

/** @throws TransientError when the folder is away, or cannot be made or written to. */
export async function openLocalBlobStore(options: LocalBlobStoreOptions): Promise<BlobStore> {
  const root = path.resolve(options.directory);
  try {
    const temps = path.join(root, tempFolder);
    // A backup may lack the folder of temporary files, which is empty.
    if (options.create === false && !(await exists(temps)) && !(await exists(path.join(root, formatKey))))
      throw away(new Error(`${root} holds no store`));
    await makeDurableFolder(root);
    await makeDurableFolder(temps);
    await removeStaleTemps(temps);
    await makeDurableFolders(root, options.folders ?? []);
  } catch (error) {
    throw storeError(error);
  }
  return new LocalBlobStore(root, options);
}

class LocalBlobStore implements BlobStore {
  readonly #root: string;
  readonly #folders: FolderSync;
  readonly #open: OpenFiles;
  readonly #puts: Semaphore;
  readonly #ways = new WriteWays();
  /** Direct writes that were refused: by the memory, which another slab may mend, or by the file system. */
  #refusals = 'O_DIRECT' in fs.constants ? 0 : mostRefusals;

  constructor(root: string, options: LocalBlobStoreOptions) {
    this.#root = root;
    this.#folders = new FolderSync(root);
    this.#open = new OpenFiles(options.openFiles ?? 1024);
    this.#puts = new Semaphore(options.putConcurrency ?? 4);
  }

  async put(key: string, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<void> {
    const file = this.#file(key);
    const release = await this.#puts.acquire(options.signal);
    try {
      await this.#put(file, parts, options);
    } catch (error) {
      if (options.signal?.aborted) throw options.signal.reason;
      // Not made anew: below a disk that is not mounted the folders would grow on the wrong one.
      throw isMissing(error) ? away(error) : storeError(error);
    } finally {
      release();
    }
  }

  async #put(
    file: string,
    parts: readonly Uint8Array[],
    { replace = false, warm = false, signal, onTaken }: PutOptions,
  ): Promise<void> {
    const folder = path.dirname(file);
    // Who wrote it may not have synced the folder yet, and must not be relied upon to.
    if (!replace && (await hasFile(file))) return this.#makeLasting(folder);
    const temp = path.join(this.#root, tempFolder, tempName());
    try {
      await this.#write(temp, parts, warm, onTaken);
      signal?.throwIfAborted();
      await this.#publish(temp, file, replace);
    } catch (error) {
      await unlinkFile(temp).catch(() => undefined);
      throw error;
    }
    await this.#folders.sync(folder);
  }

  async #makeLasting(folder: string): Promise<void> {
    await this.#folders.ensure(folder);
    await this.#folders.sync(folder);
  }

  /** Gives the written file its name. */
  async #publish(temp: string, file: string, replace: boolean): Promise<void> {
    const folder = path.dirname(file);
    await this.#folders.ensure(folder);
    try {
      await this.#name(temp, file, replace);
    } catch (error) {
      if (!isMissing(error)) throw error;
      // Somebody removed the folder since it was made, or the temporary file.
      this.#folders.forget();
      await this.#folders.ensure(folder);
      if (!(await hasFile(temp))) throw new TransientError('a temporary file of the blob store was removed by another process');
      await this.#name(temp, file, replace);
    }
    this.#open.forget(file);
  }

  async #name(temp: string, file: string, replace: boolean): Promise<void> {
    if (replace) return renameFile(temp, file);
    try {
      // Unlike rename, link leaves an object alone that somebody else has put meanwhile.
      await linkFile(temp, file);
    } catch (error) {
      if (noLinks.has(codeOf(error) ?? ''))
        throw new Error('the blob store needs a file system with hard links', { cause: error });
      if (codeOf(error) !== 'EEXIST') throw error;
      if ((await statFile(file)).isDirectory())
        throw new RangeError(`${path.relative(this.#root, file)} is a folder of other keys`);
    }
    await unlinkFile(temp);
  }

  async #write(temp: string, parts: readonly Uint8Array[], warm: boolean, onTaken?: () => void): Promise<void> {
    if (this.#refusals >= mostRefusals || warm || parts.length === 0 || !parts.every(isPageAligned))
      return write(temp, parts, 0, onTaken);
    const way = this.#ways.next();
    let isTaken = false;
    const taken = (): void => {
      isTaken = true;
      onTaken?.();
    };
    const startedAtMs = performance.now();
    try {
      await write(temp, parts, way === 'direct' ? fs.constants.O_DIRECT : 0, taken);
    } catch (error) {
      if (way !== 'direct' || codeOf(error) !== 'EINVAL' || isTaken) throw error;
      // Of several at once the first one tells.
      if (parts.every(isPageAligned)) this.#refusals += 1;
      for (const part of parts) forgetAligned(part);
      await unlinkFile(temp).catch(() => undefined);
      return write(temp, parts, 0, onTaken);
    }
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    this.#ways.took(way, bytes, performance.now() - startedAtMs);
  }

  async get(key: string, range?: BlobRange, { fresh = false, signal }: GetOptions = {}): Promise<Uint8Array> {
    const file = this.#file(key);
    signal?.throwIfAborted();
    try {
      return await this.#open.use(file, fresh, async (descriptor, sizeBytes) => {
        const { offset, length } = range ?? { offset: 0, length: sizeBytes };
        assertBlobRange(key, { offset, length }, sizeBytes);
        const target = allocateForReading(length);
        const bytesRead = await readFully(descriptor, target, offset);
        assertBlobRange(key, { offset, length }, bytesRead < length ? offset + bytesRead : sizeBytes);
        return target;
      });
    } catch (error) {
      throw isMissing(error) || codeOf(error) === 'EISDIR' ? new BlobNotFoundError(key) : storeError(error);
    }
  }

  async readInto(
    key: string,
    offset: number,
    targets: readonly Uint8Array[],
    { fresh = false, blocking = false, signal }: GetOptions = {},
  ): Promise<void> {
    const file = this.#file(key);
    signal?.throwIfAborted();
    const length = targets.reduce((sum, target) => sum + target.length, 0);
    try {
      await this.#open.use(file, fresh, async (descriptor, sizeBytes) => {
        assertBlobRange(key, { offset, length }, sizeBytes);
        const bytesRead = blocking
          ? readVectorsSync(descriptor, targets, offset)
          : await readVectorsFully(descriptor, targets, offset);
        assertBlobRange(key, { offset, length }, bytesRead < length ? offset + bytesRead : sizeBytes);
      });
    } catch (error) {
      throw isMissing(error) || codeOf(error) === 'EISDIR' ? new BlobNotFoundError(key) : storeError(error);
    }
  }

  async stat(key: string): Promise<{ sizeBytes: number } | undefined> {
    return fileSize(this.#file(key));
  }

  async delete(key: string): Promise<void> {
    const file = this.#file(key);
    try {
      await unlinkFile(file);
      this.#open.forget(file);
      await this.#folders.sync(path.dirname(file));
    } catch (error) {
      if (!isMissing(error)) throw storeError(error);
    }
  }

  async *list(prefix: string): AsyncGenerator<{ key: string; sizeBytes: number }> {
    assertBlobPrefix(prefix);
    const slash = prefix.lastIndexOf('/');
    const folder = slash === -1 ? '' : prefix.slice(0, slash);
    yield* this.#listFolder(folder, prefix.slice(slash + 1));
  }

  async *#listFolder(folder: string, start: string): AsyncGenerator<{ key: string; sizeBytes: number }> {
    const names = await this.#names(folder, start);
    for (let next = 0; next < names.length; next += statsAtOnce) {
      // Sizes are asked for in small groups, which keeps a listing of a million objects flat in memory.
      const group = names.slice(next, next + statsAtOnce);
      const sizes = await Promise.all(group.map((name) => this.#sizeOf(folder, name)));
      for (const [index, name] of group.entries()) {
        const key = folder === '' ? name : `${folder}/${name}`;
        const size = sizes[index];
        if (name.endsWith('/')) yield* this.#listFolder(key.slice(0, -1), '');
        else if (size !== undefined) yield { key, sizeBytes: size.sizeBytes };
      }
    }
  }

  async #sizeOf(folder: string, name: string): Promise<{ sizeBytes: number } | undefined> {
    return name.endsWith('/') ? undefined : fileSize(path.join(this.#root, folder, name));
  }

  /** Entries in the order of the keys below them: a folder counts with its slash. Files that are no keys are not ours. */
  async #names(folder: string, start: string): Promise<string[]> {
    try {
      const entries = await readFolder(path.join(this.#root, folder), { withFileTypes: true });
      return entries
        .filter((entry) => isKeySegment(entry.name) && (entry.isFile() || entry.isDirectory()))
        .filter((entry) => entry.name.startsWith(start))
        .map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name))
        .sort();
    } catch (error) {
      if (isMissing(error)) return [];
      throw storeError(error);
    }
  }

  #file(key: string): string {
    assertBlobKey(key);
    return path.join(this.#root, key);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#open[Symbol.asyncDispose]();
  }
}

/**
 * Memory to read a file into. Large buffers begin 16 bytes behind a page, where copying from the page cache is three times slower
 * (reading/block-cache.ts).
 */
const allocateForReading = (length: number): Buffer => Buffer.allocUnsafeSlow(length + 48).subarray(48);

const away = (cause: unknown): TransientError => new TransientError('the folder of the blob store is away', { cause });

const statsAtOnce = 64;
/** Direct writes are given up for good then. */
const mostRefusals = 3;
const noLinks: ReadonlySet<string> = new Set(['EPERM', 'ENOTSUP', 'ENOSYS']);

async function fileSize(file: string): Promise<{ sizeBytes: number } | undefined> {
  try {
    const stat = await statFile(file);
    return stat.isFile() ? { sizeBytes: stat.size } : undefined;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw storeError(error);
  }
}

const hasFile = async (file: string): Promise<boolean> => (await fileSize(file)) !== undefined;

async function write(temp: string, parts: readonly Uint8Array[], flag: number, onTaken?: () => void): Promise<void> {
  const { O_WRONLY, O_CREAT, O_EXCL } = fs.constants;
  const descriptor = await openFile(temp, O_WRONLY | O_CREAT | O_EXCL | flag, 0o600);
  try {
    await writeFully(descriptor, parts);
    onTaken?.();
    await dataSync(descriptor);
  } finally {
    await closeFile(descriptor);
  }
}
