// Reads a connection in stretches of known length, for the handshake: one question, one answer. Nothing is read ahead of what was asked
// for beyond the stream's own buffer, so that TLS or the transmission can take the connection over.
import type { Duplex } from 'node:stream';

/** The client has gone, or was sent away. */
export class Disconnected extends Error {
  override readonly name = 'Disconnected';
}

const changes = ['readable', 'end', 'close', 'error'] as const;

export class SocketReader {
  readonly #socket: Duplex;
  #wake = (): void => undefined;
  readonly #onChange = (): void => this.#wake();

  constructor(socket: Duplex) {
    this.#socket = socket;
    // Listened to all the time: a stream that holds a part of what is waited for would tell each new listener of it at once, for ever.
    for (const event of changes) socket.on(event, this.#onChange);
  }

  /** Leaves the connection to somebody else. */
  detach(): void {
    for (const event of changes) this.#socket.off(event, this.#onChange);
  }

  /** Exactly `length` bytes, which the caller has bounded. @throws Disconnected when the connection ends before. */
  async take(length: number): Promise<Buffer> {
    const socket = this.#socket;
    if (length === 0) return Buffer.alloc(0);
    for (;;) {
      const bytes = socket.read(length) as Buffer | null;
      if (bytes?.length === length) return bytes;
      if (bytes !== null || socket.destroyed || socket.readableEnded) throw new Disconnected('the client left in the handshake');
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Throws `length` bytes away. @throws Disconnected */
  async skip(length: number): Promise<void> {
    for (let left = length; left > 0;) {
      const part = Math.min(left, 16 * 1024);
      await this.take(part);
      left -= part;
    }
  }
}
