// Files that were read a moment ago stay open: a cold read of a chunk is two reads of one file, and guests read neighbours. Bounded in
// number and in time, because an open file that was deleted holds its space.
import fs from 'node:fs';
import { closeFile, openFile, statOpen } from './file-calls.ts';

interface OpenFile {
  opened: Promise<{ descriptor: number; sizeBytes: number }>;
  readers: number;
  /** No longer handed out; the last reader closes it. */
  retired: boolean;
  usedAt: number;
}

const idleMs = 5_000;

export class OpenFiles implements AsyncDisposable {
  readonly #most: number;
  readonly #files = new Map<string, OpenFile>();
  readonly #closing = new Set<Promise<void>>();
  #sweep: NodeJS.Timeout | undefined;

  constructor(most: number) {
    this.#most = most;
  }

  /** @param fresh opens the file by its name, whatever was open. @throws what open throws. */
  async use<T>(file: string, fresh: boolean, read: (descriptor: number, sizeBytes: number) => Promise<T>): Promise<T> {
    if (fresh) this.forget(file);
    const entry = this.#entry(file);
    entry.readers += 1;
    try {
      const { descriptor, sizeBytes } = await entry.opened;
      return await read(descriptor, sizeBytes);
    } catch (error) {
      this.#retire(file, entry);
      throw error;
    } finally {
      entry.readers -= 1;
      entry.usedAt = performance.now();
      if (entry.retired && entry.readers === 0) this.#close(entry);
    }
  }

  /** The file was replaced or deleted. */
  forget(file: string): void {
    const entry = this.#files.get(file);
    if (entry !== undefined) this.#retire(file, entry);
  }

  #entry(file: string): OpenFile {
    const known = this.#files.get(file);
    if (known !== undefined) {
      this.#files.delete(file);
      this.#files.set(file, known);
      return known;
    }
    const entry = { opened: openAndMeasure(file), readers: 0, retired: false, usedAt: performance.now() };
    this.#files.set(file, entry);
    if (this.#files.size > this.#most) {
      const [oldest] = this.#files.entries();
      this.#retire(...oldest!);
    }
    this.#sweep ??= setInterval(() => this.#closeIdle(), idleMs).unref();
    return entry;
  }

  #retire(file: string, entry: OpenFile): void {
    if (this.#files.get(file) === entry) this.#files.delete(file);
    if (entry.retired) return;
    entry.retired = true;
    if (entry.readers === 0) this.#close(entry);
  }

  #close(entry: OpenFile): void {
    const closed = entry.opened
      .then(({ descriptor }) => closeFile(descriptor))
      // It was never open, or close reports an old error: neither is of interest for a file that was only read.
      .catch(() => undefined)
      .finally(() => this.#closing.delete(closed));
    this.#closing.add(closed);
  }

  #closeIdle(): void {
    for (const [file, entry] of this.#files)
      if (entry.readers === 0 && performance.now() - entry.usedAt > idleMs) this.#retire(file, entry);
    if (this.#files.size > 0) return;
    clearInterval(this.#sweep);
    this.#sweep = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#sweep);
    this.#sweep = undefined;
    for (const [file, entry] of this.#files) this.#retire(file, entry);
    await Promise.all(this.#closing);
  }
}

async function openAndMeasure(file: string): Promise<{ descriptor: number; sizeBytes: number }> {
  const descriptor = await openFile(file, fs.constants.O_RDONLY, 0);
  try {
    return { descriptor, sizeBytes: (await statOpen(descriptor)).size };
  } catch (error) {
    await closeFile(descriptor);
    throw error;
  }
}
