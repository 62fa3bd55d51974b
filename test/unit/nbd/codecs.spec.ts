import { expect } from 'chai';
import fc from 'fast-check';
import { allocationRuns } from '../../../src/nbd/block-status.ts';
import { BufferPool, headroomBytes } from '../../../src/nbd/buffer-pool.ts';
import {
  InvalidOption,
  ProtocolViolation,
  blockSizeReply,
  boundedText,
  decodeClientFlags,
  decodeContextQueries,
  decodeInfoRequest,
  decodeOptionHeader,
  exportInfoReply,
  exportNameReply,
  greeting,
  optionError,
  serverReply,
} from '../../../src/nbd/option-codec.ts';
import {
  blockStatusChunk,
  decodeRequest,
  emptyRequest,
  errorChunk,
  writeDataChunkHeader,
  writeHoleChunk,
  writeNoneChunk,
  writeSimpleReply,
} from '../../../src/nbd/request-codec.ts';
import { type Refusal, refusal, transmissionFlags } from '../../../src/nbd/request-rules.ts';
import { isZero, zeroRuns } from '../../../src/nbd/zero-runs.ts';
import { testSeed } from '../../support/images.ts';
import { contextQueries, infoRequest, optionMessage, request } from '../../support/nbd-client.ts';

const property = { seed: testSeed, numRuns: 300 };

describe(`The codec of NBD options (OBRAZ_TEST_SEED=${testSeed})`, () => {
  it('greets with both magic numbers, fixed newstyle and no zeroes', () => {
    expect(greeting().toString('latin1', 0, 16)).to.equal('NBDMAGICIHAVEOPT');
    expect(greeting().toString('hex', 16)).to.equal('0003');
  });

  it('takes the flags that were offered and no others', () => {
    expect(decodeClientFlags(Buffer.from('00000001', 'hex'))).to.deep.equal({ fixedNewstyle: true, noZeroes: false });
    expect(decodeClientFlags(Buffer.from('00000003', 'hex'))).to.deep.equal({ fixedNewstyle: true, noZeroes: true });
    for (const flags of ['00000004', '80000003']) {
      expect(() => decodeClientFlags(Buffer.from(flags, 'hex'))).to.throw(ProtocolViolation);
    }
  });

  it('refuses an option without its magic number', () => {
    expect(decodeOptionHeader(optionMessage(7, Buffer.alloc(3)))).to.deep.equal({ option: 7, lengthBytes: 3 });
    expect(() => decodeOptionHeader(Buffer.alloc(16))).to.throw(ProtocolViolation, 'begins with 0x0');
  });

  it('reads what INFO and GO ask for', () => {
    expect(decodeInfoRequest(infoRequest('диск', 0, 3, 3))).to.deep.equal({ name: 'диск', infos: new Set([0, 3]) });
    expect(decodeInfoRequest(infoRequest(''))).to.deep.equal({ name: '', infos: new Set() });
  });

  it('reads the queries of a metadata context', () => {
    const queries = ['base:allocation', 'qemu:dirty-bitmap:b', ''];
    expect(decodeContextQueries(contextQueries('d', ...queries))).to.deep.equal({ name: 'd', queries });
  });

  const bad: [string, Buffer][] = [
    ['nothing', Buffer.alloc(0)],
    ['a length without a name', Buffer.from('00000009', 'hex')],
    ['a length of 4 GiB', Buffer.from('ffffffff0000', 'hex')],
    ['a name that is not UTF-8', Buffer.from('00000002c3280000', 'hex')],
    ['a name with a NUL', Buffer.from('0000000261000000', 'hex')],
    ['a name of 4097 bytes', infoRequest('x'.repeat(4097))],
    ['fewer informations than it says', Buffer.from('00000000' + '0002' + '0003', 'hex')],
    ['more than it says', Buffer.from('00000000' + '0000' + '0003', 'hex')],
  ];
  for (const [what, bytes] of bad) {
    it(`refuses an INFO of ${what}`, () => {
      expect(() => decodeInfoRequest(bytes)).to.throw(InvalidOption);
    });
  }

  it('refuses queries that are not there, however many are declared', () => {
    expect(() => decodeContextQueries(Buffer.from('00000000' + 'ffffffff', 'hex'))).to.throw(InvalidOption);
    expect(() => decodeContextQueries(contextQueries('', 'x'.repeat(4097)))).to.throw(InvalidOption, '4097');
  });

  it('answers any bytes with a value or InvalidOption', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        for (const decode of [decodeInfoRequest, decodeContextQueries]) {
          try {
            decode(Buffer.from(bytes));
          } catch (error) {
            expect(error).to.be.instanceOf(InvalidOption);
          }
        }
      }),
      property,
    );
  });

  it('writes replies as the protocol has them', () => {
    const magic = '0003e889045565a9';
    expect(exportInfoReply(7, 2 ** 40, 0x1ed).toString('hex')).to.equal(
      magic + '00000007' + '00000003' + '0000000c' + '0000' + '0000010000000000' + '01ed',
    );
    expect(blockSizeReply(6, 65_536).toString('hex')).to.equal(
      magic + '00000006' + '00000003' + '0000000e' + '0003' + '00000001' + '00010000' + '02000000',
    );
    expect(serverReply(3, 'ab', 'c').toString('hex')).to.equal(
      magic + '00000003' + '00000002' + '00000007' + '00000002' + '616263',
    );
    expect(optionError(9, 0x8000_0001, 'no').toString('hex')).to.equal(magic + '00000009' + '80000001' + '00000002' + '6e6f');
    expect(exportNameReply(512, 3, true).toString('hex')).to.equal('0000000000000200' + '0003');
    expect(exportNameReply(512, 3, false)).to.have.length(134);
  });

  it('cuts long texts between characters', () => {
    expect(boundedText('я'.repeat(3000)).toString()).to.equal('я'.repeat(2048));
    expect(boundedText(`a${'я'.repeat(3000)}`).toString()).to.equal(`a${'я'.repeat(2047)}`);
  });
});

describe(`The codec of NBD requests (OBRAZ_TEST_SEED=${testSeed})`, () => {
  it('decodes every request at any place', () => {
    const uint64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    const fields = fc.record({
      flags: fc.nat(0xffff),
      cookie: uint64,
      offset: uint64,
      length: fc.nat(0xffff_ffff),
    });
    fc.assert(
      fc.property(fc.nat(0xffff), fields, fc.nat(40), (command, wanted, at) => {
        const into = emptyRequest();
        const bytes = Buffer.concat([Buffer.alloc(at), request(command, wanted)]);
        expect(decodeRequest(bytes, at, into)).to.equal(true);
        expect(into.command).to.equal(command);
        expect(into.flags).to.equal(wanted.flags);
        expect(into.length).to.equal(wanted.length);
        expect((BigInt(into.cookieHigh) << 32n) | BigInt(into.cookieLow)).to.equal(wanted.cookie);
        const isSafe = wanted.offset <= BigInt(Number.MAX_SAFE_INTEGER);
        expect(into.offset).to.equal(isSafe ? Number(wanted.offset) : Infinity);
      }),
      property,
    );
  });

  it('decodes nothing that does not begin with the magic number', () => {
    expect(decodeRequest(request('read', { magic: 0x25609514 }), 0, emptyRequest())).to.equal(false);
  });

  it('writes replies as the protocol has them', () => {
    const cookie: [number, number] = [0x01020304, 0x85060708];
    const hexCookie = '0102030485060708';
    const bytes = Buffer.alloc(32);
    writeSimpleReply(bytes, 0, 28, ...cookie);
    expect(bytes.toString('hex', 0, 16)).to.equal('67446698' + '0000001c' + hexCookie);
    writeNoneChunk(bytes, 0, ...cookie);
    expect(bytes.toString('hex', 0, 20)).to.equal('668e33ef' + '0001' + '0000' + hexCookie + '00000000');
    writeDataChunkHeader(bytes, 0, false, ...cookie, 0x1_8000_0001, 4096);
    expect(bytes.toString('hex', 0, 28)).to.equal('668e33ef' + '0000' + '0001' + hexCookie + '00001008' + '0000000180000001');
    writeHoleChunk(bytes, 0, true, ...cookie, 512, 0xffff_0000);
    expect(bytes.toString('hex')).to.equal(
      '668e33ef' + '0001' + '0002' + hexCookie + '0000000c' + '0000000000000200' + 'ffff0000',
    );
    expect(Buffer.from(errorChunk(5, Buffer.from('bad'), ...cookie)).toString('hex')).to.equal(
      '668e33ef' + '0001' + '8001' + hexCookie + '00000009' + '00000005' + '0003' + '626164',
    );
    const runs = [
      { length: 4096, flags: 3 },
      { length: 512, flags: 0 },
    ];
    expect(Buffer.from(blockStatusChunk(runs, ...cookie)).toString('hex')).to.equal(
      '668e33ef' + '0001' + '0005' + hexCookie + '00000014' + '00000001' + '0000100000000003' + '0000020000000000',
    );
  });
});

describe('The rules for NBD requests', () => {
  const writable = { sizeBytes: 2 ** 30, readOnly: false, multiConn: false };
  const readOnly = { ...writable, readOnly: true, multiConn: true };
  const simple = { structuredReplies: false, blockStatus: false };
  const structured = { structuredReplies: true, blockStatus: true };

  it('announce what the export can do', () => {
    expect(transmissionFlags(writable, false)).to.equal(0b1000_0110_1101);
    expect(transmissionFlags(writable, true)).to.equal(0b1000_1110_1101);
    expect(transmissionFlags(readOnly, true)).to.equal(0b0001_1000_1111);
  });

  const MiB = 2 ** 20;
  const cases: [string, Parameters<typeof request>, Refusal['code'] | undefined, typeof writable?, typeof simple?][] = [
    ['a read', ['read', { length: 512, offset: 1 }], undefined],
    ['a read with FUA, which means nothing', ['read', { length: 512, flags: 1 }], undefined],
    ['a read of nothing at the end', ['read', { offset: 2 ** 30 }], undefined],
    ['a read past the end', ['read', { offset: 2 ** 30 - 1, length: 2 }], 'EINVAL'],
    ['a read far outside', ['read', { offset: 2n ** 64n - 1n, length: 1 }], 'EINVAL'],
    ['a read of 32 MiB', ['read', { length: 32 * MiB }], undefined],
    ['a read of more than 32 MiB', ['read', { length: 32 * MiB + 1 }], 'EOVERFLOW'],
    ['a read that must not be split', ['read', { length: 512, flags: 4 }], undefined, writable, structured],
    ['DF without structured replies', ['read', { length: 512, flags: 4 }], 'EINVAL'],
    ['an unknown flag', ['read', { length: 512, flags: 0x20 }], 'EINVAL'],
    ['a durable write', ['write', { length: 512, flags: 1 }], undefined],
    ['a write past the end', ['write', { offset: 2 ** 30 - 1, length: 2 }], 'ENOSPC'],
    ['a write of more than 32 MiB', ['write', { length: 32 * MiB + 1 }], 'EINVAL'],
    ['a write that must not be split', ['write', { length: 512, flags: 4 }], 'EINVAL', writable, structured],
    ['a write to a read-only export', ['write', { length: 512 }], 'EPERM', readOnly],
    ['a trim of a read-only export', ['trim', { length: 512 }], 'EPERM', readOnly],
    ['zeroes for a read-only export', ['writeZeroes', { length: 512 }], 'EPERM', readOnly],
    ['zeroes of the whole export', ['writeZeroes', { length: 2 ** 30, flags: 0b1_0011 }], undefined],
    ['zeroes past the end', ['writeZeroes', { offset: 512, length: 2 ** 30 }], 'ENOSPC'],
    ['a trim of the whole export', ['trim', { length: 2 ** 30, flags: 1 }], undefined],
    ['a trim past the end', ['trim', { offset: 512, length: 2 ** 30 }], 'EINVAL'],
    ['a flush', ['flush'], undefined],
    ['a flush of a read-only export', ['flush'], undefined, readOnly],
    ['a flush of a range', ['flush', { length: 512 }], 'EINVAL'],
    ['a block status', ['blockStatus', { length: 2 ** 30, flags: 8 }], undefined, readOnly, structured],
    ['a block status without a context', ['blockStatus', { length: 512 }], 'EINVAL'],
    ['a block status of nothing', ['blockStatus'], 'EINVAL', writable, structured],
    ['a block status past the end', ['blockStatus', { offset: 512, length: 2 ** 30 }], 'EINVAL', writable, structured],
    ['a request to cache', ['cache', { length: 512 }], 'EINVAL'],
    ['an unknown command', [8, { length: 512 }], 'EINVAL'],
    ['a command of 16 bits', [0xffff], 'EINVAL'],
  ];
  for (const [what, args, code, device = writable, agreed = simple] of cases) {
    it(`${code === undefined ? 'let through' : `refuse with ${code}`} ${what}`, () => {
      const into = emptyRequest();
      decodeRequest(request(...args), 0, into);
      expect(refusal(into, device, agreed)?.code).to.equal(code);
    });
  }
});

describe(`Runs of an NBD export (OBRAZ_TEST_SEED=${testSeed})`, () => {
  const data = (length: number) => ({ length, hole: false, zero: false });
  const hole = (length: number) => ({ length, hole: true, zero: true });

  it('are joined, and end with the request but for the last', () => {
    expect(allocationRuns([data(10), data(10), hole(10), data(10)], { offset: 0, length: 25 }, 1000, false)).to.deep.equal([
      data(20),
      hole(10),
    ]);
    expect(allocationRuns([data(10), hole(500), hole(500)], { offset: 0, length: 20 }, 1000, false)).to.deep.equal([
      data(10),
      hole(990),
    ]);
  });

  it('are one, and inside of the request, when one is asked for', () => {
    expect(allocationRuns([hole(10), hole(10), data(5)], { offset: 0, length: 100 }, 1000, true)).to.deep.equal([hole(20)]);
    expect(allocationRuns([hole(1000)], { offset: 0, length: 100 }, 1000, true)).to.deep.equal([hole(100)]);
  });

  it('fit 32 bits and the export', () => {
    expect(allocationRuns([hole(2 ** 40)], { offset: 0, length: 2 ** 31 }, 2 ** 41, false)).to.deep.equal([hole(0xffff_0000)]);
    expect(allocationRuns([hole(2 ** 40)], { offset: 2 ** 40, length: 512 }, 2 ** 40 + 600, false)).to.deep.equal([hole(600)]);
  });

  it('that cannot be are refused', () => {
    for (const runs of [[], [data(0)], [data(-1)], [data(1.5)]]) {
      expect(() => allocationRuns(runs, { offset: 0, length: 1 }, 10, false)).to.throw(RangeError);
    }
  });

  it('keep the rules of the protocol for any answer of a device', () => {
    const run = fc.record({ length: fc.integer({ min: 1, max: 2 ** 34 }), hole: fc.boolean(), zero: fc.boolean() });
    fc.assert(
      fc.property(
        fc.array(run, { minLength: 1, maxLength: 8 }),
        fc.integer({ min: 1, max: 2 ** 31 }),
        fc.boolean(),
        (runs, length, one) => {
          const sizeBytes = 2 ** 35;
          const offset = 2 ** 33;
          const answer = allocationRuns(runs, { offset, length }, sizeBytes, one);
          const total = answer.reduce((sum, part) => sum + part.length, 0);
          const last = answer.at(-1)!;
          expect(total - last.length).to.be.below(length);
          expect(offset + total).to.be.at.most(sizeBytes);
          for (const part of answer) expect(part.length).to.be.within(1, 2 ** 32 - 1);
          if (one) expect(answer).to.have.length(1);
          if (one) expect(total).to.be.at.most(length);
          // Every byte is said to be what the device said it was.
          let at = 0;
          for (const part of answer) {
            const [from, to] = [at, at + part.length];
            let begin = 0;
            for (const told of runs) {
              const end = begin + told.length;
              if (begin < to && end > from)
                expect({ hole: told.hole, zero: told.zero }).to.deep.equal({ hole: part.hole, zero: part.zero });
              begin = end;
            }
            at = to;
          }
        },
      ),
      property,
    );
  });

  it('of zeros are found in pieces of 64 KiB', () => {
    const piece = 64 * 1024;
    const bytes = Buffer.alloc(5 * piece + 100);
    bytes[10 + piece] = 1;
    bytes[10 + 4 * piece - 1] = 1;
    expect(zeroRuns(bytes, 10, 10 + 5 * piece + 50)).to.deep.equal([
      { start: 10, end: 10 + piece, zero: true },
      { start: 10 + piece, end: 10 + 2 * piece, zero: false },
      { start: 10 + 2 * piece, end: 10 + 3 * piece, zero: true },
      { start: 10 + 3 * piece, end: 10 + 4 * piece, zero: false },
      { start: 10 + 4 * piece, end: 10 + 5 * piece + 50, zero: true },
    ]);
    expect(isZero(bytes, 0, 10 + piece)).to.equal(true);
    expect(isZero(bytes, 0, 11 + piece)).to.equal(false);
    bytes[piece] = 1;
    expect(isZero(bytes, 0, 10 + piece)).to.equal(false);
  });
});

describe('The buffers of NBD connections', () => {
  it('are used again, and counted while they are lent', () => {
    const pool = new BufferPool({ maxLentBytes: 2 ** 20, maxKeptBytes: 2 ** 20 });
    const buffer = pool.take(5000);
    expect(buffer).to.have.length(8192 + headroomBytes);
    expect(pool.take(8192)).to.have.length(buffer.length).and.not.equal(buffer);
    expect(pool.lentBytes).to.equal(2 * buffer.length);
    pool.give(buffer);
    expect(pool.lentBytes).to.equal(buffer.length);
    expect(pool.take(4097)).to.equal(buffer);
    expect(pool.take(0)).to.have.length(4096 + headroomBytes);
    expect(pool.take(2 ** 25)).to.have.length(2 ** 25 + headroomBytes);
  });

  it('let those wait who find none, in their order', () => {
    const pool = new BufferPool({ maxLentBytes: 8192, maxKeptBytes: 0 });
    const lent = [pool.take(4096), pool.take(4096)];
    expect(pool.hasRoom()).to.equal(false);
    const woken: string[] = [];
    const never = (): void => void woken.push('never');
    pool.waitForRoom(never);
    pool.waitForRoom(() => {
      woken.push('first');
      lent.push(pool.take(8192));
    });
    pool.waitForRoom(() => void woken.push('second'));
    pool.stopWaiting(never);
    expect(pool.isShort).to.equal(true);
    pool.give(lent.shift()!);
    expect(woken).to.deep.equal(['first']);
    pool.give(lent.shift()!);
    expect(woken).to.deep.equal(['first']);
    pool.give(lent.shift()!);
    expect(woken).to.deep.equal(['first', 'second']);
    expect(pool.isShort).to.equal(false);
    expect(pool.lentBytes).to.equal(0);
  });
});
