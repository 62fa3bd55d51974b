// A disk that fails, as a kernel tells of it: what a failed fdatasync did not write is clean in memory afterwards, can be read, and no later
// sync writes it or says so. It stands in for node:fs in this process until it is disposed of.
import fs from 'node:fs';

const pieceBytes = 16;

/** Of a file, in pieces of 16 bytes: what was written and not synced, and what is on the disk. */
interface State {
  dirty: Set<number>;
  durable: Set<number>;
}

export class FailingSyncs implements Disposable {
  /** Syncs fail while it is true. */
  fails = false;
  failures = 0;
  readonly #fs = { fdatasync: fs.fdatasync, writev: fs.writev, writevSync: fs.writevSync };
  readonly #files = new Map<string, State>();

  constructor() {
    const { fdatasync, writev, writevSync } = this.#fs;
    const noteWritten = (descriptor: number, parts: readonly NodeJS.ArrayBufferView[], position: number): void => {
      const { dirty } = this.#of(fs.fstatSync(descriptor));
      const end = position + parts.reduce((sum, part) => sum + part.byteLength, 0);
      for (let at = position; at < end; at += pieceBytes) dirty.add(at / pieceBytes);
    };
    const written = (descriptor: number, parts: Uint8Array[], position: number, done: () => void): void => {
      noteWritten(descriptor, parts, position);
      writev(descriptor, parts, position, done);
    };
    const writtenAtOnce = (descriptor: number, parts: Uint8Array[], position: number): number => {
      noteWritten(descriptor, parts, position);
      return writevSync(descriptor, parts, position);
    };
    const synced = (descriptor: number, done: (error: Error | null) => void): void => {
      const state = this.#of(fs.fstatSync(descriptor));
      if (this.fails) {
        this.failures += 1;
        state.dirty.clear();
        setImmediate(() => done(Object.assign(new Error('the disk fails'), { code: 'EIO' })));
        return;
      }
      for (const piece of state.dirty) state.durable.add(piece);
      state.dirty.clear();
      fdatasync(descriptor, done);
    };
    Object.assign(fs, { writev: written, writevSync: writtenAtOnce, fdatasync: synced });
  }

  /** Whether the first bytes of the file would survive a power loss. */
  isDurable(file: string, lengthBytes: number): boolean {
    const { durable } = this.#of(fs.statSync(file));
    for (let piece = 0; piece * pieceBytes < lengthBytes; piece += 1) if (!durable.has(piece)) return false;
    return true;
  }

  #of({ dev, ino }: fs.Stats): State {
    const key = `${dev}:${ino}`;
    const state = this.#files.get(key) ?? { dirty: new Set(), durable: new Set() };
    this.#files.set(key, state);
    return state;
  }

  [Symbol.dispose](): void {
    Object.assign(fs, this.#fs);
  }
}
