// Answers between the connection's memory and its socket: who owns what, and in which order.
import { Writable } from 'node:stream';
import { expect } from 'chai';
import { BufferPool, ConnectionMemory, headroomBytes } from '../../../src/nbd/buffer-pool.ts';
import { Replies } from '../../../src/nbd/replies.ts';
import { ReplyQueue } from '../../../src/nbd/reply-queue.ts';

/** A socket whose peer takes nothing until it is told to. */
class SlowSocket extends Writable {
  readonly taken: Buffer[] = [];
  #go: (() => void) | undefined;
  #isOpen = false;

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.taken.push(Buffer.from(chunk));
    if (this.#isOpen) done();
    else this.#go = done;
  }

  open(): void {
    this.#isOpen = true;
    this.#go?.();
  }
}

describe('The replies of an NBD connection', () => {
  const pool = new BufferPool({ maxLentBytes: 2 ** 30, maxKeptBytes: 0 });

  it('are whole when giving memory back makes the connection go on, and flush', () => {
    const socket = new SlowSocket();
    const memory: ConnectionMemory = new ConnectionMemory(pool, () => queue.flush());
    const queue: ReplyQueue = new ReplyQueue(socket, memory);
    const replies = new Replies(queue, memory, false);
    const buffer = memory.take(1000);
    buffer.fill('data', headroomBytes);
    replies.data({ cookieHigh: 0, cookieLow: 7, offset: 0, length: 1000, whole: false }, buffer);
    expect(Buffer.concat(socket.taken).subarray(16).equals(Buffer.alloc(1000, 'data'))).to.equal(true);
  });

  it('that tell of many runs are counted until the client has taken them', async () => {
    const socket = new SlowSocket();
    const memory = new ConnectionMemory(pool, () => undefined);
    const queue = new ReplyQueue(socket, memory);
    const replies = new Replies(queue, memory, true);
    const runs = Array.from({ length: 10_000 }, (_, index) => ({
      length: 4096,
      hole: index % 2 === 0,
      zero: index % 2 === 0,
    }));
    for (let count = 0; count < 10; count += 1) replies.blockStatus(0, 7, runs);
    queue.flush();
    expect(memory.heldBytes).to.be.at.least(10 * 8 * runs.length);
    socket.open();
    await new Promise((resolve) => socket.end(resolve));
    expect(memory.heldBytes).to.equal(0);
    const said = Buffer.concat(socket.taken);
    expect(said).to.have.length(10 * (20 + 4 + 8 * runs.length));
    expect([said.readUInt32BE(24), said.readUInt32BE(28), said.readUInt32BE(36)]).to.deep.equal([4096, 3, 0]);
  });
});
