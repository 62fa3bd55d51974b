import { expect } from 'chai';
import * as fc from 'fast-check';
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
import { testSeed } from '../../support/sample.ts';
import { joined, request } from '../../support/nbd-client.ts';

const property = { seed: testSeed, numRuns: 300 };

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
    expect(bytes.toString('hex', 0, 16)).to.equal(joined('67446698', '0000001c', hexCookie));
    writeNoneChunk(bytes, 0, ...cookie);
    expect(bytes.toString('hex', 0, 20)).to.equal(joined('668e33ef', '0001', '0000', hexCookie, '00000000'));
    writeDataChunkHeader(bytes, 0, false, ...cookie, 0x1_8000_0001, 4096);
    expect(bytes.toString('hex', 0, 28)).to.equal(joined('668e33ef', '0000', '0001', hexCookie, '00001008', '0000000180000001'));
    writeHoleChunk(bytes, 0, true, ...cookie, 512, 0xffff_0000);
    expect(bytes.toString('hex')).to.equal(
      joined('668e33ef', '0001', '0002', hexCookie, '0000000c', '0000000000000200', 'ffff0000'),
    );
    expect(Buffer.from(errorChunk(5, Buffer.from('bad'), ...cookie)).toString('hex')).to.equal(
      joined('668e33ef', '0001', '8001', hexCookie, '00000009', '00000005', '0003', '626164'),
    );
    const runs = [
      { length: 4096, flags: 3 },
      { length: 512, flags: 0 },
    ];
    expect(Buffer.from(blockStatusChunk(runs, ...cookie)).toString('hex')).to.equal(
      joined('668e33ef', '0001', '0005', hexCookie, '00000014', '00000001', '0000100000000003', '0000020000000000'),
    );
  });
});
