// Random reads and writes of 4 KiB over one NBD connection, so many under way all the time: qemu-img bench only knows sequences. Simple
// replies, places by a seeded generator.
import { NbdClient } from '../support/nbd-client.ts';

export interface RandomLoad {
  socketPath: string;
  exportName: string;
  command: 'read' | 'write';
  /** Requests under way. */
  depth: number;
  /** Places lie in the first `rangeBytes`. */
  rangeBytes: number;
  seconds: number;
  seed: number;
  /** Called when counting begins: what comes before warms both ends up. */
  onWarm: () => void;
  /** Every request is followed by a FLUSH, and counts when that is answered; with depth 1. */
  flushes?: boolean;
}

export interface LoadResult {
  operations: number;
  seconds: number;
}

const ioBytes = 4096;
const warmSeconds = 0.5;
const requestBytes = 28;
const replyBytes = 16;
const commands = { read: 0, write: 1, flush: 3 } as const;

export async function randomLoad(load: RandomLoad): Promise<LoadResult> {
  using client = await NbdClient.opened(load.socketPath, load.exportName);
  const { socket } = client;
  socket.removeAllListeners('data');
  // Awaited here: the connection ends with this function.
  return await new Promise((resolve, reject) => {
    const run = new Run(load, (bytes) => socket.write(bytes), resolve, reject);
    socket.on('data', (part) => run.received(part));
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('the server closed the connection')));
    run.start();
  });
}

class Run {
  readonly #load: RandomLoad;
  readonly #send: (bytes: Buffer) => void;
  readonly #resolve: (result: LoadResult) => void;
  readonly #reject: (error: Error) => void;
  readonly #dataBytes: number;
  readonly #reply = Buffer.alloc(replyBytes);
  #replyFilled = 0;
  #dataLeft = 0;
  #state: number;
  #startedAt = 0;
  #underWay = 0;
  #operations = 0;
  #flushing = false;
  #isWarm = false;

  constructor(
    load: RandomLoad,
    send: (bytes: Buffer) => void,
    resolve: (result: LoadResult) => void,
    reject: (error: Error) => void,
  ) {
    this.#load = load;
    this.#send = send;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#dataBytes = load.command === 'read' ? ioBytes : 0;
    this.#state = (load.seed * 2654435761) >>> 0 || 1;
  }

  start(): void {
    this.#startedAt = performance.now();
    this.#issue(this.#load.depth);
  }

  #place(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return Math.floor((this.#state / 2 ** 32) * (this.#load.rangeBytes / ioBytes)) * ioBytes;
  }

  #issue(count: number): void {
    const payload = this.#load.command === 'write' ? ioBytes : 0;
    const bytes = Buffer.allocUnsafe(count * (requestBytes + payload));
    for (let index = 0, at = 0; index < count; index += 1, at += requestBytes + payload) {
      writeRequest(bytes, at, commands[this.#load.command], this.#place(), ioBytes);
      if (payload > 0) bytes.fill(0x40 + (this.#state & 63), at + requestBytes, at + requestBytes + payload);
    }
    this.#underWay += count;
    this.#send(bytes);
  }

  #flush(): void {
    const bytes = Buffer.alloc(requestBytes);
    writeRequest(bytes, 0, commands.flush, 0, 0);
    this.#flushing = true;
    this.#underWay += 1;
    this.#send(bytes);
  }

  received(part: Buffer): void {
    let ended = 0;
    for (let at = 0; at < part.length;) {
      if (this.#dataLeft > 0) {
        const taken = Math.min(this.#dataLeft, part.length - at);
        this.#dataLeft -= taken;
        at += taken;
        if (this.#dataLeft === 0) ended += 1;
        continue;
      }
      const taken = part.copy(this.#reply, this.#replyFilled, at, Math.min(part.length, at + replyBytes - this.#replyFilled));
      this.#replyFilled += taken;
      at += taken;
      if (this.#replyFilled < replyBytes) break;
      this.#replyFilled = 0;
      if (this.#reply.readUInt32BE(0) !== 0x67446698 || this.#reply.readUInt32BE(4) !== 0) {
        this.#reject(new Error(`a request failed: ${this.#reply.toString('hex')}`));
        return;
      }
      this.#dataLeft = this.#flushing ? 0 : this.#dataBytes;
      if (this.#dataLeft === 0) ended += 1;
    }
    if (ended > 0) this.#ended(ended);
  }

  #ended(count: number): void {
    this.#underWay -= count;
    if (this.#load.flushes === true && !this.#flushing) {
      this.#flush();
      return;
    }
    this.#flushing = false;
    this.#operations += count;
    const seconds = (performance.now() - this.#startedAt) / 1000;
    if (!this.#isWarm && seconds > warmSeconds) {
      this.#isWarm = true;
      this.#operations = 0;
      this.#startedAt = performance.now();
      this.#load.onWarm();
      this.#issue(count);
      return;
    }
    if (!this.#isWarm || seconds < this.#load.seconds) this.#issue(count);
    else if (this.#underWay === 0) this.#resolve({ operations: this.#operations, seconds });
  }
}

function writeRequest(bytes: Buffer, at: number, command: number, offset: number, length: number): void {
  bytes.writeUInt32BE(0x25609513, at);
  bytes.writeUInt16BE(0, at + 4);
  bytes.writeUInt16BE(command, at + 6);
  bytes.writeUInt32BE(0, at + 8);
  bytes.writeUInt32BE(7, at + 12);
  bytes.writeUInt32BE(Math.floor(offset / 2 ** 32), at + 16);
  bytes.writeUInt32BE(offset >>> 0, at + 20);
  bytes.writeUInt32BE(length, at + 24);
}
