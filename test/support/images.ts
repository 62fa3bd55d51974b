// Disk images made by qemu-img and qemu-io, the oracle that the decoders are compared with. Made once for each recipe and kept in a
// temporary folder, so that a second run is fast; a folder per version of qemu-img.
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { assertRange, type ByteSource } from '../../src/platform/byte-source.ts';
import { isLongRun, randomFrom } from './sample.ts';

const run = promisify(execFile);

function toolVersion(tool: string): string | undefined {
  try {
    return execFileSync(tool, ['--version'], { encoding: 'utf8', timeout: 10_000 }).split('\n')[0];
  } catch {
    return undefined;
  }
}

const version = toolVersion('qemu-img');

/** Skips the tests of a suite, loudly, on a machine without qemu-img: `before(function () { requireQemuImg(this); })`. */
export function requireQemuImg(context: Mocha.Context): void {
  if (version !== undefined && toolVersion('qemu-io') !== undefined) return;
  console.warn('SKIPPED: qemu-img and qemu-io are not installed (Debian: qemu-utils); nothing was compared with them');
  context.skip();
}

const root = join(tmpdir(), `obraz-test-images-${userInfo().uid}`);

/** The file that `make` wrote for `recipe`, this time or in an earlier run. */
export async function cachedFile(recipe: unknown, make: (path: string) => Promise<void>): Promise<string> {
  const key = createHash('sha256')
    .update(JSON.stringify([version, make.toString(), recipe]))
    .digest('hex')
    .slice(0, 32);
  const path = join(root, key);
  if (await exists(path)) return path;
  mkdirSync(root, { recursive: true, mode: 0o700 });
  const temporary = `${path}.${process.pid}.${Math.random().toString(36).slice(2)}`;
  try {
    await make(temporary);
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
  return path;
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** A name beside the cache for a file that the caller deletes. */
export function scratchPath(): string {
  mkdirSync(root, { recursive: true, mode: 0o700 });
  return join(root, `scratch-${process.pid}-${Math.random().toString(36).slice(2)}`);
}

/** @throws with what qemu-img wrote to standard error. */
export async function qemuImg(...args: string[]): Promise<string> {
  return (await run('qemu-img', args, { timeout: 120_000, maxBuffer: 16 * 1024 * 1024 })).stdout;
}

/** Runs commands on an image in one process: `write -P 7 0 64k`, `discard 0 1M` … */
export async function qemuIo(path: string, format: string, commands: readonly string[], ...options: string[]): Promise<void> {
  // Arguments have a limit; commands that belong together are few enough for it.
  for (let at = 0; at < commands.length; at += 500) {
    const batch = commands.slice(at, at + 500).flatMap((command) => ['-c', command]);
    const { stdout } = await run('qemu-io', ['-f', format, ...options, ...batch, path], {
      // Where an `abort` may leave its core.
      cwd: root,
      timeout: 120_000,
      maxBuffer: 64 * 1024 * 1024,
    });
    if (/failed|error/i.test(stdout)) throw new Error(`qemu-io: ${stdout.slice(0, 500)}`);
  }
}

/** Whether qemu-img reads the whole image; its bytes are then in the file `target`. */
export async function qemuConvertsToRaw(path: string, format: string, target: string): Promise<boolean> {
  try {
    await run('qemu-img', ['convert', '-f', format, '-O', 'raw', path, target], { timeout: 60_000 });
    return true;
  } catch {
    return false;
  }
}

/** The guest's bytes as qemu-img reads them, in a file that goes when it is disposed. */
export async function rawOf(path: string, format: string): Promise<AsyncDisposable & { path: string }> {
  const target = scratchPath();
  await qemuImg('convert', '-f', format, '-O', 'raw', path, target);
  return { path: target, [Symbol.asyncDispose]: () => rm(target, { force: true }) };
}

/** A full run makes gigabytes of images and needs each once. */
export async function forget(path: string): Promise<void> {
  if (isLongRun) await rm(path, { force: true });
}

export interface GuestData {
  at: number;
  length: number;
  /** `text` packs to a third, `noise` does not pack at all. */
  kind: 'text' | 'noise';
}

/** Writes a sparse file of guest bytes. */
export function writeGuest(path: string, sizeBytes: number, pieces: readonly GuestData[], seed: number): void {
  const random = randomFrom(seed);
  const file = openSync(path, 'w');
  try {
    ftruncateSync(file, sizeBytes);
    for (const { at, length, kind } of pieces) {
      const bytes = Buffer.alloc(Math.min(length, sizeBytes - at));
      fillGuest(bytes, kind, random);
      writeSync(file, bytes, 0, bytes.length, at);
    }
  } finally {
    closeSync(file);
  }
}

function fillGuest(bytes: Buffer, kind: GuestData['kind'], random: () => number): void {
  if (kind === 'noise') for (let at = 0; at < bytes.length; at += 1) bytes[at] = random() * 256;
  else {
    let at = 0;
    while (at < bytes.length) {
      const word = `${Math.floor(random() * 5000).toString(36)} line ${Math.floor(random() * 50)}\n`;
      at += bytes.write(word, at, 'latin1');
    }
  }
}

/** A file as a ByteSource; close it. */
export async function openFile(path: string): Promise<ByteSource> {
  const handle: FileHandle = await open(path, 'r');
  const { size } = await handle.stat();
  return {
    sizeBytes: size,
    async read(target, offset, signal) {
      assertRange(size, offset, target.length);
      signal?.throwIfAborted();
      let done = 0;
      while (done < target.length) {
        const { bytesRead } = await handle.read(target, done, target.length - done, offset + done);
        if (bytesRead === 0) throw new Error(`${path} was cut short`);
        done += bytesRead;
      }
    },
    [Symbol.asyncDispose]: () => handle.close(),
  };
}

/** Where two files of guest bytes differ first, or undefined when they are equal. `read` answers our side. */
export async function firstDifference(
  ours: ByteSource,
  rawPath: string,
  stepBytes = 4 * 1024 * 1024,
): Promise<{ at: number } | { sizes: [number, number] } | undefined> {
  const { size } = await stat(rawPath);
  if (size !== ours.sizeBytes) return { sizes: [ours.sizeBytes, size] };
  const file = openSync(rawPath, 'r');
  try {
    const mine = Buffer.alloc(Math.min(stepBytes, size));
    const theirs = Buffer.alloc(Math.min(stepBytes, size));
    for (let at = 0; at < size; at += stepBytes) {
      const length = Math.min(stepBytes, size - at);
      const a = mine.subarray(0, length);
      const b = theirs.subarray(0, length);
      await ours.read(a, at);
      readSync(file, b, 0, length, at);
      if (a.equals(b)) continue;
      for (let index = 0; index < length; index += 1) if (a[index] !== b[index]) return { at: at + index };
    }
    return undefined;
  } finally {
    closeSync(file);
  }
}
