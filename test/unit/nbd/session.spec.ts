// The transmission phase over a device in memory: every command, what it is answered, and clients that do not play along.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm, stat, writeFile } from 'node:fs/promises';
import { expect } from 'chai';
import { BlockDeviceError } from '../../../src/nbd/block-device.ts';
import { isLongRun, randomFrom, testSeed } from '../../support/sample.ts';
import { MemoryDevice } from '../../support/memory-device.ts';
import { NbdClient, request } from '../../support/nbd-client.ts';
import { TestNbdServer, until } from '../../support/nbd-server.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const flag = { fua: 1, noHole: 2, df: 4, reqOne: 8, fastZero: 16 };
const errno = { EPERM: 1, EIO: 5, EINVAL: 22, ENOSPC: 28, EOVERFLOW: 75, ENOTSUP: 95 };

/** Bytes of which none is zero, each place its own. */
const pattern = Buffer.alloc(8 * MiB);
for (let at = 0; at < pattern.length; at += 1) pattern[at] = 1 + (((at >>> 9) + at) % 255);
const counting = (sizeBytes: number): Buffer => Buffer.from(pattern.subarray(0, sizeBytes));

for (const readsNow of [true, false]) {
  describe(`NBD transmission of a device that reads ${readsNow ? 'at once' : 'later'}`, () => {
    let device: MemoryDevice;
    let server: TestNbdServer;
    beforeEach(async () => {
      device = new MemoryDevice(counting(8 * MiB), { readsNow });
      server = await TestNbdServer.start({
        disk: device,
        frozen: new MemoryDevice(device.bytes, { readOnly: true, readsNow }),
      });
    });
    afterEach(async () => {
      await server[Symbol.asyncDispose]();
      expect(server.server.heldBytes).to.equal(0);
      for (const { opens, disposals } of server.exports.devices.values()) expect(disposals).to.equal(opens);
      expect(server.errors).to.deep.equal([]);
    });

    for (const length of [1, 511, 4096, 64 * KiB, 64 * KiB + 1, 1 * MiB, 8 * MiB]) {
      it(`reads ${length} bytes in both forms`, async () => {
        const offset = length === 8 * MiB ? 0 : 777;
        using simple = await NbdClient.opened(server.tcpAddress, 'disk');
        simple.send(request('read', { offset, length, cookie: 0xfedc_ba98_7654_3210n }));
        const reply = await simple.simpleReply(length);
        expect(reply).to.include({ error: 0, cookie: 0xfedc_ba98_7654_3210n });
        expect(reply.data.equals(device.bytes.subarray(offset, offset + length))).to.equal(true);
        using structured = await NbdClient.opened(server.socketPath, 'disk', { structured: true });
        for (const flags of [0, flag.df]) {
          structured.send(request('read', { offset, length, flags }));
          const chunks = await structured.chunks();
          expect(chunks).to.have.length(1);
          expect(chunks[0]).to.include({ type: 1, cookie: 7n });
          expect(chunks[0]!.payload.readBigUInt64BE(0)).to.equal(BigInt(offset));
          expect(chunks[0]!.payload.subarray(8).equals(device.bytes.subarray(offset, offset + length))).to.equal(true);
        }
      });
    }

    it('leaves zeros out of structured replies, but not where they may not be split', async () => {
      device.bytes.fill(0, 64 * KiB, 192 * KiB).fill(0, 1 * MiB, 3 * MiB);
      using client = await NbdClient.opened(server.tcpAddress, 'disk', { structured: true });
      const shape = async (offset: number, length: number, flags = 0): Promise<string> => {
        client.send(request('read', { offset, length, flags }));
        const chunks = await client.chunks();
        const read = Buffer.alloc(length, 0xff);
        for (const { type, payload } of chunks) {
          const at = Number(payload.readBigUInt64BE(0)) - offset;
          if (type === 1) payload.copy(read, at, 8);
          else read.fill(0, at, at + payload.readUInt32BE(8));
        }
        expect(read.equals(device.bytes.subarray(offset, offset + length))).to.equal(true);
        return chunks
          .map(({ type, payload }) => (type === 1 ? `${payload.length - 8}` : `-${payload.readUInt32BE(8)}`))
          .join(' ');
      };
      expect(await shape(64 * KiB, 4096)).to.equal('-4096');
      expect(await shape(64 * KiB, 256)).to.equal('256');
      expect(await shape(64 * KiB, 4096, flag.df)).to.equal('4096');
      expect(await shape(1 * MiB, 2 * MiB)).to.equal(`-${2 * MiB}`);
      expect(await shape(1 * MiB, 2 * MiB, flag.df)).to.equal(`${2 * MiB}`);
      expect(await shape(0, 256 * KiB)).to.equal(`${64 * KiB} -${128 * KiB} ${64 * KiB}`);
      expect(await shape(64 * KiB, 256 * KiB)).to.equal(`-${128 * KiB} ${128 * KiB}`);
      expect(await shape(0, 192 * KiB)).to.equal(`${64 * KiB} -${128 * KiB}`);
      expect(await shape(0, 4 * MiB)).to.equal(`${64 * KiB} -${128 * KiB} ${832 * KiB} -${2 * MiB} ${1 * MiB}`);
      expect(await shape(1 * MiB, 2 * MiB + 10)).to.equal(`-${2 * MiB} 10`);
    });

    it('writes, flushes, trims and zeroes, and hands the flags on', async () => {
      using client = await NbdClient.opened(server.tcpAddress, 'disk');
      const data = Buffer.alloc(70_000, 'write');
      client.send(request('write', { offset: 5, length: data.length, cookie: 1n }), data);
      expect(await client.simpleReply()).to.include({ error: 0, cookie: 1n });
      expect(device.bytes.subarray(5, 70_005).equals(data)).to.equal(true);
      client.send(request('write', { length: 3, flags: flag.fua }), Buffer.from('abc'));
      await client.simpleReply();
      for (const [command, fields] of [
        ['flush', {}],
        ['trim', { offset: 512, length: 1024, flags: flag.fua }],
        ['writeZeroes', { offset: 1, length: 2 }],
        ['writeZeroes', { offset: 1, length: 2, flags: flag.fua | flag.noHole }],
        ['writeZeroes', { length: 8 * MiB, flags: flag.fastZero }],
      ] as const) {
        client.send(request(command, fields));
        expect((await client.simpleReply()).error, command).to.equal(0);
      }
      expect(device.calls).to.deep.equal([
        'write 5+70000',
        'write 0+3 fua',
        'flush',
        'trim 512+1024 fua',
        'zero 1+2',
        'zero 1+2 fua no-hole',
        `zero 0+${8 * MiB} fast`,
      ]);
      client.send(request('writeZeroes', { length: 512, flags: flag.fastZero | flag.noHole }));
      expect((await client.simpleReply()).error).to.equal(errno.ENOTSUP);
    });

    it('answers requests of nothing', async () => {
      using client = await NbdClient.opened(server.tcpAddress, 'disk', { structured: true });
      for (const command of ['read', 'write', 'trim', 'writeZeroes'] as const) {
        client.send(request(command));
        expect(await client.chunks(), command).to.deep.equal([{ done: true, type: 0, cookie: 7n, payload: Buffer.alloc(0) }]);
      }
      expect(device.calls).to.deep.equal([]);
    });

    it('refuses in words, drains what comes with it, and goes on', async () => {
      using client = await NbdClient.opened(server.tcpAddress, 'disk', { structured: true });
      const refused = async (): Promise<[number, string]> => {
        const [chunk] = await client.chunks();
        expect(chunk!.type).to.equal(0x8001);
        return [chunk!.payload.readUInt32BE(0), chunk!.payload.toString('utf8', 6)];
      };
      client.send(request('write', { offset: 8 * MiB - 1, length: 100_000 }), Buffer.alloc(100_000));
      expect(await refused()).to.deep.equal([errno.ENOSPC, "100000 bytes at 8388607 are outside of the export's 8388608"]);
      client.send(request('write', { length: 32 * MiB + 1 }), Buffer.alloc(32 * MiB + 1));
      expect(await refused()).to.deep.equal([
        errno.EINVAL,
        '33554433 bytes are more than the 33554432 that one request may have',
      ]);
      client.send(request('read', { length: 32 * MiB + 1 }), request('read', { offset: 2n ** 63n, length: 1 }), request('cache'));
      expect((await refused())[0]).to.equal(errno.EOVERFLOW);
      expect((await refused())[0]).to.equal(errno.EINVAL);
      expect((await refused())[0]).to.equal(errno.EINVAL);
      client.send(request('read', { length: 10 }));
      expect((await client.chunks())[0]!.payload.subarray(8).equals(device.bytes.subarray(0, 10))).to.equal(true);
      using frozen = await NbdClient.opened(server.tcpAddress, 'frozen');
      frozen.send(request('write', { length: 10 }), Buffer.alloc(10), request('trim', { length: 10 }), request('flush'));
      expect((await frozen.simpleReply()).error).to.equal(errno.EPERM);
      expect((await frozen.simpleReply()).error).to.equal(errno.EPERM);
      expect((await frozen.simpleReply()).error).to.equal(0);
      expect(device.calls.filter((call) => !call.startsWith('read'))).to.deep.equal([]);
    });

    it('tells what is allocated', async () => {
      device.bytes.fill(0, 1 * MiB, 3 * MiB);
      using client = await NbdClient.opened(server.tcpAddress, 'disk', { structured: true });
      const runs = async (fields: Parameters<typeof request>[1]): Promise<string> => {
        client.send(request('blockStatus', fields));
        const { type, payload } = (await client.chunks())[0]!;
        expect(type).to.equal(5);
        expect(payload.readUInt32BE(0)).to.equal(1);
        const told: string[] = [];
        for (let at = 4; at < payload.length; at += 8) told.push(`${payload.readUInt32BE(at)}:${payload.readUInt32BE(at + 4)}`);
        return told.join(' ');
      };
      expect(await runs({ length: 8 * MiB })).to.equal(`${MiB}:0 ${2 * MiB}:3 ${5 * MiB}:0`);
      expect(await runs({ length: 8 * MiB, flags: flag.reqOne })).to.equal(`${64 * KiB}:0`);
      expect(await runs({ offset: 2 * MiB, length: 512, flags: flag.reqOne })).to.equal('512:3');
      expect(await runs({ offset: 2 * MiB, length: 512 })).to.equal(`${64 * KiB}:3`);
    });

    it('serves many requests that come in one piece, and one that comes in many', async () => {
      const random = randomFrom(testSeed);
      using client = await NbdClient.opened(server.tcpAddress, 'disk');
      const expected = new Map<bigint, Buffer>();
      const parts: Buffer[] = [];
      for (let index = 0; index < 300; index += 1) {
        const offset = Math.floor(random() * 7 * MiB);
        const length = 1 + Math.floor(random() ** 4 * 200 * KiB);
        expected.set(BigInt(index), device.bytes.subarray(offset, offset + length));
        parts.push(request('read', { offset, length, cookie: BigInt(index) }));
      }
      const all = Buffer.concat(parts);
      for (let at = 0; at < all.length;) {
        const length = random() < 0.5 ? 1 + Math.floor(random() * 40) : 1 + Math.floor(random() * 3000);
        client.send(all.subarray(at, at + length));
        at += length;
        if (random() < 0.3) await new Promise((resolve) => setImmediate(resolve));
      }
      while (expected.size > 0) {
        const header = await client.take(16);
        const cookie = header.readBigUInt64BE(8);
        const wanted = expected.get(cookie)!;
        expect((await client.take(wanted.length)).equals(wanted), `read ${cookie} (OBRAZ_TEST_SEED=${testSeed})`).to.equal(true);
        expected.delete(cookie);
      }
    });

    it('answers what was sent before DISC, and nothing after', async () => {
      using client = await NbdClient.opened(server.tcpAddress, 'disk');
      client.send(
        request('write', { length: 4 }),
        Buffer.from('last'),
        request('read', { length: 1 * MiB, offset: 4096, cookie: 8n }),
        request('disconnect'),
        request('write', { length: 4, offset: 8 }),
        Buffer.from('late'),
      );
      const said = await client.closed();
      expect(said).to.have.length(16 + 16 + 1 * MiB);
      expect(device.bytes.toString('latin1', 0, 4)).to.equal('last');
      expect(device.bytes.toString('latin1', 8, 12)).to.not.equal('late');
      await until(() => server.closed.length === 1);
      expect(server.closed[0]![1]).to.equal('the client disconnected');
    });

    it('closes when a request has no magic number, without a word to what stands before', async () => {
      using client = await NbdClient.opened(server.tcpAddress, 'disk');
      client.send(request('read', { length: 10, magic: 0x12560953 }));
      expect(await client.closed()).to.have.length(0);
      await until(() => server.closed.length === 1);
      expect(server.closed[0]![1]).to.contain('broke the protocol');
    });

    it('writes nothing of a payload that did not come whole', async () => {
      const before = Buffer.from(device.bytes);
      for (const sent of [0, 1, 100_000, 4 * MiB - 1]) {
        const client = await NbdClient.opened(server.tcpAddress, 'disk');
        client.send(request('write', { length: 4 * MiB }), Buffer.alloc(sent, 'x'));
        client.socket.end();
        await client.closed();
      }
      await until(() => server.server.connectionCount === 0);
      expect(device.bytes.equals(before)).to.equal(true);
      expect(device.calls.filter((call) => call.startsWith('write'))).to.deep.equal([]);
      expect(server.server.heldBytes).to.equal(0);
    });
  });
}

describe('An NBD connection', () => {
  it('has a bounded number of requests in flight, and leaves the rest in its socket', async () => {
    let running = 0;
    let most = 0;
    const held = Promise.withResolvers<void>();
    const device = new MemoryDevice(counting(1 * MiB), {
      readsNow: false,
      before: async () => {
        running += 1;
        most = Math.max(most, running);
        await held.promise;
        running -= 1;
      },
    });
    await using server = await TestNbdServer.start({ disk: device }, { limits: { maxRequests: 10 } });
    using client = await NbdClient.opened(server.tcpAddress, 'disk');
    client.send(
      ...Array.from({ length: 500 }, (_, index) => request('read', { length: 512, offset: index, cookie: BigInt(index) })),
    );
    await until(() => running === 10);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(running).to.equal(10);
    held.resolve();
    await client.take(500 * (16 + 512));
    expect(most).to.equal(10);
  });

  it('that does not read its answers holds a bounded memory, and hinders nobody', async () => {
    const device = new MemoryDevice(counting(8 * MiB));
    await using server = await TestNbdServer.start({ disk: device }, { limits: { maxHeldBytes: 4 * MiB } });
    using lazy = await NbdClient.opened(server.tcpAddress, 'disk');
    lazy.socket.pause();
    lazy.send(...Array.from({ length: 200 }, () => request('read', { length: 1 * MiB })));
    await until(() => server.server.heldBytes >= 4 * MiB);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(server.server.heldBytes).to.be.below(6 * MiB);
    using other = await NbdClient.opened(server.socketPath, 'disk');
    other.send(request('read', { length: 1 * MiB }));
    expect((await other.simpleReply(1 * MiB)).error).to.equal(0);
    lazy.socket.resume();
    await lazy.take(200 * (16 + 1 * MiB));
    await until(() => server.server.heldBytes === 0);
  });

  it('that holds memory and does not move is closed when others need it', async () => {
    const device = new MemoryDevice(counting(8 * MiB));
    await using server = await TestNbdServer.start(
      { disk: device },
      { limits: { maxHeldBytes: 4 * MiB, maxHeldBytesOfAll: 4 * MiB, reservedBytes: 0, stalledMs: 300 } },
    );
    using stuck = await NbdClient.opened(server.tcpAddress, 'disk');
    stuck.send(request('write', { length: 8 * MiB }));
    await until(() => server.server.heldBytes >= 4 * MiB);
    using waiting = await NbdClient.opened(server.tcpAddress, 'disk');
    waiting.send(request('read', { length: 1 * MiB }));
    expect((await waiting.simpleReply(1 * MiB)).error).to.equal(0);
    await stuck.closed();
    expect(server.closed.map(([, reason]) => reason)).to.deep.equal(['the client did not move while memory was short']);
  });

  it('that only trickles is closed too', async () => {
    const device = new MemoryDevice(counting(8 * MiB));
    await using server = await TestNbdServer.start(
      { disk: device },
      { limits: { maxHeldBytes: 4 * MiB, maxHeldBytesOfAll: 4 * MiB, reservedBytes: 0, stalledMs: 300 } },
    );
    using slow = await NbdClient.opened(server.tcpAddress, 'disk');
    slow.send(request('write', { length: 8 * MiB }));
    const trickle = setInterval(() => slow.send(Buffer.from('x')), 20);
    try {
      await until(() => server.server.heldBytes >= 4 * MiB);
      using waiting = await NbdClient.opened(server.tcpAddress, 'disk');
      waiting.send(request('read', { length: 1 * MiB }));
      expect((await waiting.simpleReply(1 * MiB)).error).to.equal(0);
      await until(() => server.closed.length > 0);
      expect(server.closed[0]![1]).to.equal('the client did not move while memory was short');
    } finally {
      clearInterval(trickle);
    }
  });

  it('whose device lets its writes wait keeps no others from reading, and is not closed for it', async () => {
    const held = Promise.withResolvers<void>();
    const busy = new MemoryDevice(Buffer.alloc(8 * MiB), {
      before: (call) => (call.startsWith('write') ? held.promise : Promise.resolve()),
    });
    const device = new MemoryDevice(counting(1 * MiB));
    await using server = await TestNbdServer.start(
      { busy, disk: device },
      { limits: { maxHeldBytes: 16 * MiB, maxHeldBytesOfAll: 4 * MiB, reservedBytes: 2 * MiB, stalledMs: 50 } },
    );
    using writing = await NbdClient.opened(server.tcpAddress, 'busy');
    writing.send(request('write', { length: 4 * MiB }), Buffer.alloc(4 * MiB, 1), request('write', { length: 4 * MiB }));
    await until(() => server.server.heldBytes >= 4 * MiB);
    using reading = await NbdClient.opened(server.socketPath, 'disk');
    // In this time whoever holds memory and is slow would be found several times.
    for (const deadline = Date.now() + 300; Date.now() < deadline;) {
      reading.send(request('read', { length: 64 * KiB }));
      expect((await reading.simpleReply(64 * KiB)).error).to.equal(0);
    }
    expect(server.closed).to.deep.equal([]);
    held.resolve();
    expect((await writing.simpleReply(0)).error).to.equal(0);
  });

  it('that asks for many block statuses has one at a time, and lets others run in between', async () => {
    let running = 0;
    let most = 0;
    let hasTurned = true;
    let crowded = 0;
    const device = new MemoryDevice(counting(1 * MiB), {
      before: async () => {
        if (!hasTurned) crowded += 1;
        hasTurned = false;
        setImmediate(() => (hasTurned = true));
        running += 1;
        most = Math.max(most, running);
        await Promise.resolve();
        running -= 1;
      },
    });
    await using server = await TestNbdServer.start({ disk: device });
    using client = await NbdClient.opened(server.tcpAddress, 'disk', { structured: true });
    const cookies = Array.from({ length: 600 }, (_, index) => BigInt(index));
    client.send(...cookies.map((cookie) => request('blockStatus', { length: 1 * MiB, cookie })));
    for (const cookie of cookies) expect((await client.chunk()).cookie).to.equal(cookie);
    expect({ most, crowded }).to.deep.equal({ most: 1, crowded: 0 });
  });

  it('answers in the order in which the device is ready', async () => {
    const first = Promise.withResolvers<void>();
    const device = new MemoryDevice(counting(1 * MiB), {
      before: async (call) => {
        if (call === 'write 0+1') await first.promise;
      },
    });
    await using server = await TestNbdServer.start({ disk: device });
    using client = await NbdClient.opened(server.tcpAddress, 'disk');
    client.send(request('write', { length: 1, cookie: 1n }), Buffer.from('a'));
    client.send(
      request('write', { offset: 1, length: 1, cookie: 2n }),
      Buffer.from('b'),
      request('read', { length: 1, cookie: 3n }),
    );
    const early = [(await client.take(16)).readBigUInt64BE(8)];
    if (early[0] === 3n) await client.take(1);
    early.push((await client.take(16)).readBigUInt64BE(8));
    if (early[1] === 3n) await client.take(1);
    expect(early).to.have.members([2n, 3n]);
    first.resolve();
    expect((await client.take(16)).readBigUInt64BE(8)).to.equal(1n);
  });

  it('tells the client the codes of the device, and the owner what else goes wrong', async () => {
    const device = new MemoryDevice(counting(1 * MiB), {
      readsNow: false,
      before: async (call) => {
        if (call.startsWith('write')) throw new BlockDeviceError('ENOSPC', 'the disk is full');
        if (call.startsWith('read')) throw new Error('a bug');
        if (call.startsWith('flush')) throw new BlockDeviceError('EIO', 'the log is damaged');
      },
    });
    await using server = await TestNbdServer.start({ disk: device });
    using client = await NbdClient.opened(server.tcpAddress, 'disk', { structured: true });
    const failure = async (): Promise<string> => {
      const { payload } = (await client.chunks())[0]!;
      return `${payload.readUInt32BE(0)} ${payload.toString('utf8', 6)}`;
    };
    client.send(request('write', { length: 4 }), Buffer.from('data'));
    expect(await failure()).to.equal('28 the disk is full');
    client.send(request('read', { length: 4 }));
    expect(await failure()).to.equal('5 the server could not do it');
    client.send(request('flush'));
    expect(await failure()).to.equal('5 the log is damaged');
    expect(server.errors.map(String)).to.deep.equal(['Error: a bug']);
    expect(server.server.counters).to.include({ failures: 3, writes: 1, reads: 1, flushes: 1 });
  });

  it('ends at once when its export ends', async () => {
    const device = new MemoryDevice(counting(1 * MiB), {
      readsNow: false,
      before: (_call, signal) =>
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error))),
    });
    await using server = await TestNbdServer.start({ disk: device });
    using client = await NbdClient.opened(server.tcpAddress, 'disk');
    client.send(request('read', { length: 4 }), request('write', { length: 8 }), Buffer.from('half'));
    await until(() => device.calls.length === 1);
    device.end();
    expect(await client.closed()).to.have.length(0);
    await until(() => device.disposals === 1);
    expect(server.closed.map(([, reason]) => reason)).to.deep.equal(['the export has ended']);
    // Opened after the end: the same.
    using late = await NbdClient.opened(server.tcpAddress, 'disk');
    expect(await late.closed()).to.have.length(0);
    await until(() => device.disposals === 2);
  });

  it('that was said goodbye is closed after its device, which others can open then', async () => {
    class SlowToClose extends MemoryDevice {
      override async [Symbol.asyncDispose](): Promise<void> {
        await new Promise((resolve) => setTimeout(resolve, 50));
        await super[Symbol.asyncDispose]();
      }
    }
    const device = new SlowToClose(counting(1 * MiB));
    await using server = await TestNbdServer.start({ disk: device });
    using client = await NbdClient.opened(server.tcpAddress, 'disk');
    client.send(request('write', { length: 4 }), Buffer.from('data'), request('disconnect'));
    expect((await client.closed()).toString('hex', 0, 8)).to.equal('6744669800000000');
    expect(device.calls).to.deep.equal(['write 0+4', 'flush']);
    expect(device.disposals).to.equal(1);
    // A client that does not wait has its device closed all the same, once.
    const hasty = await NbdClient.opened(server.tcpAddress, 'disk');
    hasty.send(request('disconnect'));
    hasty.socket.end();
    await until(() => device.disposals === 2);
    await until(() => server.server.connectionCount === 0);
    expect(device.disposals).to.equal(2);
    expect(server.errors).to.deep.equal([]);
  });

  it('that holds nothing goes on as soon as the reserve has room, and waits in one place however often it asks', async () => {
    const held = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    const busy = new MemoryDevice(Buffer.alloc(8 * MiB), { before: () => held.promise });
    const slow = new MemoryDevice(Buffer.alloc(8 * MiB), { readsNow: false, before: () => gate.promise });
    const disk = new MemoryDevice(counting(1 * MiB), { readsNow: false, recordsCalls: false });
    const limits = { maxHeldBytes: 16 * MiB, maxHeldBytesOfAll: 4 * MiB, reservedBytes: 2 * MiB };
    await using server = await TestNbdServer.start({ busy, slow, disk }, { limits });
    using writer = await NbdClient.opened(server.tcpAddress, 'busy');
    writer.send(request('write', { length: 4 * MiB }), Buffer.alloc(4 * MiB, 1));
    await until(() => server.server.heldBytes >= 4 * MiB);
    // Let in through the reserve, request after request.
    using reader = await NbdClient.opened(server.tcpAddress, 'disk');
    for (let round = 0; round < 100; round += 1) {
      reader.send(...Array.from({ length: 16 }, () => request('read', { length: 4096 })));
      for (let index = 0; index < 16; index += 1) expect((await reader.simpleReply(4096)).error).to.equal(0);
    }
    using filler = await NbdClient.opened(server.tcpAddress, 'slow');
    filler.send(request('read', { length: 2 * MiB }));
    await until(() => server.server.heldBytes >= 6 * MiB);
    reader.send(request('read', { length: 4096 }));
    await new Promise((resolve) => setTimeout(resolve, 50));
    gate.resolve();
    expect((await filler.simpleReply(2 * MiB)).error).to.equal(0);
    // The writer still holds all but the reserve.
    expect((await reader.simpleReply(4096)).error).to.equal(0);
    expect(server.server.heldBytes).to.be.at.least(4 * MiB);
    held.resolve();
    expect((await writer.simpleReply()).error).to.equal(0);
    await until(() => server.server.heldBytes === 0);
  });

  it('that is gone has its device closed after its last call', async () => {
    const held = Promise.withResolvers<void>();
    const device = new MemoryDevice(counting(1 * MiB), { before: () => held.promise });
    await using server = await TestNbdServer.start({ disk: device });
    const client = await NbdClient.opened(server.tcpAddress, 'disk');
    client.send(request('write', { length: 4 }), Buffer.from('data'));
    await until(() => device.calls.length === 1);
    client.socket.resetAndDestroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(device.disposals).to.equal(0);
    held.resolve();
    await until(() => device.disposals === 1);
    expect(server.errors).to.deep.equal([]);
  });

  it('is finished in order when the server closes: answered, flushed, closed', async () => {
    const held = Promise.withResolvers<void>();
    const device = new MemoryDevice(counting(1 * MiB), {
      before: async (call) => {
        if (call.startsWith('write')) await held.promise;
      },
    });
    const server = await TestNbdServer.start({ disk: device });
    const client = await NbdClient.opened(server.tcpAddress, 'disk');
    const idle = await NbdClient.greeted(server.tcpAddress);
    client.send(request('write', { length: 4 }), Buffer.from('data'));
    await until(() => device.calls.length === 1);
    const closing = server[Symbol.asyncDispose]();
    client.send(request('write', { length: 4, offset: 100 }), Buffer.from('late'));
    await idle.closed();
    held.resolve();
    expect((await client.closed()).toString('hex', 0, 8)).to.equal('6744669800000000');
    await closing;
    expect(device.calls).to.deep.equal(['write 0+4', 'flush']);
    expect(device.disposals).to.equal(1);
    const refused = await NbdClient.connect(server.tcpAddress).then(
      () => false,
      () => true,
    );
    expect(refused).to.equal(true);
  });

  it('whose device never answers does not keep a server from closing', async () => {
    const device = new MemoryDevice(counting(1 * MiB), {
      before: (_call, signal) =>
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error))),
    });
    const server = await TestNbdServer.start({ disk: device }, { limits: { closeMs: 100 } });
    const client = await NbdClient.opened(server.tcpAddress, 'disk');
    client.send(request('write', { length: 4 }), Buffer.from('data'));
    await until(() => device.calls.length === 1);
    await server[Symbol.asyncDispose]();
    expect(await client.closed()).to.have.length(0);
    expect(device.disposals).to.equal(1);
  });

  it(`survives garbage at every place (OBRAZ_TEST_SEED=${testSeed})`, async () => {
    const random = randomFrom(testSeed);
    const device = new MemoryDevice(counting(1 * MiB));
    await using server = await TestNbdServer.start({ disk: device });
    for (let round = 0; round < (isLongRun ? 2000 : 60); round += 1) {
      using client = await NbdClient.opened(server.socketPath, 'disk', { structured: random() < 0.5 });
      const bytes = Buffer.concat(
        Array.from({ length: 8 }, () =>
          request(Math.floor(random() * 10), {
            flags: random() < 0.5 ? 0 : Math.floor(random() * 64),
            offset: Math.floor(random() * 2 * MiB),
            length: Math.floor(random() * 100 * KiB),
          }),
        ),
      );
      for (let change = Math.floor(random() * 3); change > 0; change -= 1)
        bytes[Math.floor(random() * bytes.length)] = random() * 256;
      client.send(bytes);
      client.socket.end();
      await client.closed();
    }
    await until(() => server.server.connectionCount === 0);
    expect(server.server.heldBytes).to.equal(0);
    expect(server.errors).to.deep.equal([]);
    expect(device.disposals).to.equal(device.opens);
  });
});

describe('The NBD server', () => {
  it('makes its Unix socket for this user alone, replaces a dead one, and removes it', async () => {
    const first = await TestNbdServer.start({ disk: new MemoryDevice(Buffer.alloc(512)) });
    const path = first.socketPath;
    expect(((await stat(path)).mode & 0o777).toString(8)).to.equal('600');
    const again = await TestNbdServer.start({}, { endpoints: [{ address: path, tls: 'off' }] }).then(
      () => undefined,
      (error: Error) => error.message,
    );
    expect(again).to.equal(`cannot listen on ${path}: another program listens there`);
    await first[Symbol.asyncDispose]();
    expect(await stat(path).catch((error: NodeJS.ErrnoException) => error.code)).to.equal('ENOENT');

    const dead = `${path.replace(/\/nbd.sock$/, '')}-dead.sock`;
    const code = `require('net').createServer().listen(${JSON.stringify(dead)}, () => process.kill(process.pid, 'SIGKILL'))`;
    await once(spawn(process.execPath, ['-e', code]), 'close');
    expect((await stat(dead)).isSocket()).to.equal(true);
    await using second = await TestNbdServer.start({}, { endpoints: [{ address: dead, tls: 'off' }] });
    expect(second.server.addresses).to.deep.equal([dead]);

    const file = `${dead}.file`;
    await writeFile(file, 'mine');
    for (const [address, message] of [
      [file, `cannot listen on ${file}: there is a file that is not a socket`],
      [`/tmp/${'x'.repeat(110)}`, /the path has 115 bytes, a socket's has/],
      ['127.0.0.1:0', undefined],
    ] as const) {
      const failure = await TestNbdServer.start({}, { endpoints: [{ address, tls: 'off' }] }).then(
        async (server) => {
          await server[Symbol.asyncDispose]();
          return undefined;
        },
        (error: Error) => error.message,
      );
      if (message instanceof RegExp) expect(failure).to.match(message);
      else expect(failure).to.equal(message);
    }
    await rm(file);
    const withoutCertificate = await TestNbdServer.start({}, { endpoints: [{ address: '127.0.0.1:0', tls: 'required' }] }).then(
      () => undefined,
      (error: Error) => error.message,
    );
    expect(withoutCertificate).to.equal('TLS on 127.0.0.1:0 needs a certificate');
  });
});
