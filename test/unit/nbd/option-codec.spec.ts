import { expect } from 'chai';
import * as fc from 'fast-check';
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
import { testSeed } from '../../support/sample.ts';
import { contextQueries, infoRequest, joined, optionMessage } from '../../support/nbd-client.ts';

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
    ['fewer informations than it says', Buffer.from(joined('00000000', '0002', '0003'), 'hex')],
    ['more than it says', Buffer.from(joined('00000000', '0000', '0003'), 'hex')],
  ];
  for (const [what, bytes] of bad) {
    it(`refuses an INFO of ${what}`, () => {
      expect(() => decodeInfoRequest(bytes)).to.throw(InvalidOption);
    });
  }

  it('refuses queries that are not there, however many are declared', () => {
    expect(() => decodeContextQueries(Buffer.from(joined('00000000', 'ffffffff'), 'hex'))).to.throw(InvalidOption);
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
      joined(magic, '00000007', '00000003', '0000000c', '0000', '0000010000000000', '01ed'),
    );
    expect(blockSizeReply(6, 65_536).toString('hex')).to.equal(
      joined(magic, '00000006', '00000003', '0000000e', '0003', '00000001', '00010000', '02000000'),
    );
    expect(serverReply(3, 'ab', 'c').toString('hex')).to.equal(
      joined(magic, '00000003', '00000002', '00000007', '00000002', '616263'),
    );
    expect(optionError(9, 0x8000_0001, 'no').toString('hex')).to.equal(joined(magic, '00000009', '80000001', '00000002', '6e6f'));
    expect(exportNameReply(512, 3, true).toString('hex')).to.equal(joined('0000000000000200', '0003'));
    expect(exportNameReply(512, 3, false)).to.have.length(134);
  });

  it('cuts long texts between characters', () => {
    expect(boundedText('я'.repeat(3000)).toString()).to.equal('я'.repeat(2048));
    expect(boundedText(`a${'я'.repeat(3000)}`).toString()).to.equal(`a${'я'.repeat(2047)}`);
  });
});
