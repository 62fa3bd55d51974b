// node:fs as promises, by its callback interface and numeric descriptors: two to three times as many small reads a second as through
// fs.promises and its FileHandle (measured, docs/decisions/003-layout.md).
import fs from 'node:fs';
import { promisify } from 'node:util';

export const openFile = promisify<string, number, number, number>(fs.open);
export const closeFile = promisify(fs.close);
export const fullSync = promisify(fs.fsync);
export const linkFile = promisify(fs.link);
export const renameFile = promisify(fs.rename);
export const unlinkFile = promisify(fs.unlink);
export const makeFolder = promisify<string, fs.MakeDirectoryOptions>(fs.mkdir);
export const statFile = promisify<fs.PathLike, fs.Stats>(fs.stat);
export const statOpen = promisify<number, fs.Stats>(fs.fstat);
export const readFolder = promisify<fs.PathLike, { withFileTypes: true }, fs.Dirent[]>(fs.readdir);

/** Looked up when it is called: a sync that fails is what tests put in its place. */
export const dataSync = (descriptor: number): Promise<void> =>
  new Promise((resolve, reject) => {
    fs.fdatasync(descriptor, (error) => (error === null ? resolve() : reject(error)));
  });

/** Fills `target` from `position` on; answers how many bytes there were, fewer only at the end of the file. */
export async function readFully(descriptor: number, target: Uint8Array, position: number): Promise<number> {
  let done = 0;
  while (done < target.length) {
    const bytesRead = await readOnce(descriptor, target, done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

const readOnce = (descriptor: number, target: Uint8Array, done: number, position: number): Promise<number> =>
  new Promise((resolve, reject) => {
    fs.read(descriptor, target, done, target.length - done, position, (error, bytesRead) =>
      error === null ? resolve(bytesRead) : reject(error),
    );
  });

/** Fills all targets, one after another, from `position` on; answers as readFully. */
export async function readVectorsFully(descriptor: number, targets: readonly Uint8Array[], position: number): Promise<number> {
  let rest: readonly Uint8Array[] = targets.filter((target) => target.length > 0);
  let done = 0;
  while (rest.length > 0) {
    const bytesRead = await readVectorsOnce(descriptor, rest, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
    rest = behind(rest, bytesRead);
  }
  return done;
}

/** As readVectorsFully, in this thread. */
export function readVectorsSync(descriptor: number, targets: readonly Uint8Array[], position: number): number {
  let rest: readonly Uint8Array[] = targets.filter((target) => target.length > 0);
  let done = 0;
  while (rest.length > 0) {
    const bytesRead = fs.readvSync(descriptor, rest.slice(0, maxVectors), position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
    rest = behind(rest, bytesRead);
  }
  return done;
}

const readVectorsOnce = (descriptor: number, targets: readonly Uint8Array[], position: number): Promise<number> =>
  new Promise((resolve, reject) => {
    fs.readv(descriptor, targets.slice(0, maxVectors), position, (error, bytesRead) =>
      error === null ? resolve(bytesRead) : reject(error),
    );
  });

/** What is left of the vectors after their first `count` bytes. */
export function behind(vectors: readonly Uint8Array[], count: number): readonly Uint8Array[] {
  let left = count;
  for (const [index, vector] of vectors.entries()) {
    if (left < vector.length) return left === 0 ? vectors.slice(index) : [vector.subarray(left), ...vectors.slice(index + 1)];
    left -= vector.length;
  }
  return [];
}

/** Writes all parts one after another, however the kernel splits them. */
export async function writeFully(descriptor: number, parts: readonly Uint8Array[], start = 0): Promise<void> {
  const { error } = await writeAsMuch(descriptor, parts, start);
  if (error !== undefined) throw error;
}

/** As writeFully; when it fails, `error` says why, and `written` how many bytes are there. */
export async function writeAsMuch(
  descriptor: number,
  parts: readonly Uint8Array[],
  start: number,
): Promise<{ written: number; error: unknown }> {
  let rest: readonly Uint8Array[] = parts.filter((part) => part.length > 0);
  let written = 0;
  while (rest.length > 0) {
    try {
      const count = await writeOnce(descriptor, rest, start + written);
      written += count;
      rest = behind(rest, count);
    } catch (error) {
      return { written, error };
    }
  }
  return { written, error: undefined };
}

/** As writeAsMuch, in this thread. */
export function writeAsMuchSync(
  descriptor: number,
  parts: readonly Uint8Array[],
  start: number,
): { written: number; error: unknown } {
  let rest: readonly Uint8Array[] = parts.filter((part) => part.length > 0);
  let written = 0;
  while (rest.length > 0) {
    try {
      const count = fs.writevSync(descriptor, rest.slice(0, maxVectors), start + written);
      written += count;
      rest = behind(rest, count);
    } catch (error) {
      return { written, error };
    }
  }
  return { written, error: undefined };
}

const writeOnce = (descriptor: number, parts: readonly Uint8Array[], position: number): Promise<number> =>
  new Promise((resolve, reject) => {
    fs.writev(descriptor, parts.slice(0, maxVectors), position, (error, written) =>
      error === null ? resolve(written) : reject(error),
    );
  });

/** What POSIX systems take in one call at least. */
const maxVectors = 1024;
