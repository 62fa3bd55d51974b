// The server's log: a file that the server itself appends to, so that it does not depend on the service. Bounded: beyond a size its
// text moves to one older file and it begins anew.
import { copyFile, open, stat, truncate } from 'node:fs/promises';

export const logLimitBytes = 8 * 1024 * 1024;

const checkIntervalMs = 30_000;
const tailBytes = 4096;

export class ServerLog implements Disposable {
  readonly file: string;
  readonly #timer: NodeJS.Timeout;
  #startOffset = 0;

  private constructor(file: string) {
    this.file = file;
    // A failed rotation is tried again; what fails for good fills no disk faster than the server's few lines do.
    this.#timer = setInterval(() => void this.rotate().catch(() => {}), checkIntervalMs).unref();
  }

  static async open(file: string): Promise<ServerLog> {
    const log = new ServerLog(file);
    await (await open(file, 'a', 0o600)).close();
    await log.rotate();
    return log;
  }

  /** A descriptor for the server to append to; the caller closes its own. What is written from now on is this start's. */
  async openForStart(): Promise<{ fd: number; close(): Promise<void> }> {
    const handle = await open(this.file, 'a', 0o600);
    this.#startOffset = (await handle.stat()).size;
    return { fd: handle.fd, close: () => handle.close() };
  }

  /** The end of what the server has written since its start. */
  async tail(): Promise<string> {
    const handle = await open(this.file, 'r');
    try {
      const { size } = await handle.stat();
      const from = Math.max(Math.min(this.#startOffset, size), size - tailBytes);
      const buffer = Buffer.alloc(size - from);
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, from);
      return buffer.toString('utf8', 0, bytesRead).trim();
    } finally {
      await handle.close();
    }
  }

  // The server holds the file open for appending, so it is emptied in place. A line written between the two steps is lost.
  async rotate(): Promise<void> {
    if ((await stat(this.file)).size <= logLimitBytes) return;
    await copyFile(this.file, `${this.file}.1`);
    await truncate(this.file);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
