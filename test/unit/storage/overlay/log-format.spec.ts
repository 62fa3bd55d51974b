import { crc32 } from 'node:zlib';
import { expect } from 'chai';
import * as fc from 'fast-check';
import {
  type RecordHeader,
  encodeLogHeader,
  parseLogHeader,
  parseRecordHeader,
  recordBytes,
  recordKind,
  recordPrefixBytes,
  writeRecordHeader,
} from '../../../../src/storage/overlay/log-format.ts';

const fields = {
  diskId: 'fhm0123456789abcdefg',
  generation: 7,
  sizeBytes: 2 ** 45,
  createdAtMs: 1_700_000_000_123,
  salt: 0xdecafbad,
};

const number = fc.nat(2 ** 31 - 1);

describe('the format of a log', () => {
  it('has the file header that the documentation says', () => {
    const bytes = encodeLogHeader(fields);
    expect(bytes.length).to.equal(4096);
    expect(bytes.toString('latin1', 0, 8)).to.equal('obrzovly');
    expect(bytes.readUInt16LE(8)).to.equal(1);
    expect(bytes.readUInt16LE(10)).to.equal(0);
    expect(bytes.readUInt32LE(12)).to.equal(0xdecafbad);
    expect(bytes.readBigUInt64LE(16)).to.equal(7n);
    expect(bytes.readBigUInt64LE(24)).to.equal(2n ** 45n);
    expect(bytes.readBigUInt64LE(32)).to.equal(1_700_000_000_123n);
    expect(bytes[40]).to.equal(20);
    expect(bytes.toString('latin1', 41, 61)).to.equal(fields.diskId);
    expect(bytes.subarray(61, 4092).every((byte) => byte === 0)).to.equal(true);
    expect(bytes.readUInt32LE(4092)).to.equal(crc32(bytes.subarray(0, 4092)));
    expect(parseLogHeader(bytes)).to.deep.equal({ ...fields, check: bytes.readUInt32LE(4092) });
  });

  it('has the record header that the documentation says', () => {
    const prefix = Buffer.alloc(recordPrefixBytes(2));
    expect(prefix.length).to.equal(80);
    prefix.writeUInt32LE(111, 64);
    prefix.writeUInt32LE(222, 68);
    const record = {
      kind: recordKind.data,
      sequence: 5,
      offset: 2 ** 40 + 4096,
      lengthBytes: 8192,
      durableBytes: 2 ** 33,
      chain: 99,
    };
    const check = writeRecordHeader(prefix, fields.salt, record);
    expect(prefix.toString('latin1', 0, 4)).to.equal('orec');
    expect(prefix.readUInt32LE(4)).to.equal(fields.salt);
    expect(prefix[8]).to.equal(1);
    expect([16, 24, 32, 40].map((offset) => Number(prefix.readBigUInt64LE(offset)))).to.deep.equal([
      5,
      2 ** 40 + 4096,
      8192,
      2 ** 33,
    ]);
    expect(prefix.readUInt32LE(48)).to.equal(99);
    expect(prefix.readUInt32LE(52)).to.equal(crc32(prefix.subarray(64, 72)));
    expect(prefix.readUInt32LE(60))
      .to.equal(check)
      .and.equal(crc32(prefix.subarray(0, 60)));
    expect(recordBytes(record)).to.equal(80 + 8192);
    const parsed = parseRecordHeader(prefix, fields.salt);
    expect(parsed).to.deep.equal({ ...record, tableCheck: prefix.readUInt32LE(52), check } satisfies RecordHeader);
    expect(parseRecordHeader(prefix, 1)).to.equal(undefined);
  });

  it('notices every flipped bit of either header', () => {
    const header = encodeLogHeader(fields);
    const prefix = Buffer.alloc(recordPrefixBytes(0));
    writeRecordHeader(prefix, 3, {
      kind: recordKind.zeros,
      sequence: 1,
      offset: 0,
      lengthBytes: 4096,
      durableBytes: 0,
      chain: 0,
    });
    expect(parseRecordHeader(prefix, 3)).to.not.equal(undefined);
    for (let bit = 0; bit < header.length * 8; bit += 7) {
      header[bit >> 3]! ^= 1 << (bit & 7);
      expect(parseLogHeader(header), `bit ${bit}`).to.equal(undefined);
      header[bit >> 3]! ^= 1 << (bit & 7);
    }
    for (let bit = 0; bit < prefix.length * 8; bit += 1) {
      prefix[bit >> 3]! ^= 1 << (bit & 7);
      expect(parseRecordHeader(prefix, 3), `bit ${bit}`).to.equal(undefined);
      prefix[bit >> 3]! ^= 1 << (bit & 7);
    }
  });

  it('refuses records whose numbers cannot be, although their checks are right', () => {
    const refused = (change: Partial<Parameters<typeof writeRecordHeader>[2]>): void => {
      const prefix = Buffer.alloc(4096);
      const record = { kind: recordKind.zeros, sequence: 0, offset: 0, lengthBytes: 4096, durableBytes: 0, chain: 0, ...change };
      writeRecordHeader(prefix, 3, record);
      expect(parseRecordHeader(prefix, 3), JSON.stringify(change)).to.equal(undefined);
    };
    refused({ kind: 4 as 1 });
    refused({ kind: recordKind.data, lengthBytes: 257 * 4096 });
    refused({ lengthBytes: 0 });
    refused({ lengthBytes: 100 });
    refused({ offset: 512 });
    refused({ offset: 2 ** 45, lengthBytes: 4096 });
    refused({ lengthBytes: 2 ** 45 + 4096 });
    refused({ sequence: 2 ** 53 });
  });

  it('keeps every number of a header', () => {
    fc.assert(
      fc.property(number, number, number, fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 64 }), (a, b, c, text) => {
        const diskId = text.replaceAll(/[^!-~]/gu, 'x');
        const given = { diskId, generation: a * 1000, sizeBytes: b * 4096, createdAtMs: c, salt: a };
        expect(parseLogHeader(encodeLogHeader(given))).to.deep.include(given);
      }),
    );
    expect(() => encodeLogHeader({ ...fields, diskId: '' })).to.throw(RangeError);
    expect(() => encodeLogHeader({ ...fields, diskId: 'x'.repeat(65) })).to.throw(RangeError);
    expect(() => encodeLogHeader({ ...fields, diskId: 'a b' })).to.throw(RangeError);
  });

  it('does not take a later version for damage', () => {
    const bytes = encodeLogHeader(fields);
    bytes.writeUInt16LE(2, 8);
    bytes.writeUInt32LE(crc32(bytes.subarray(0, 4092)), 4092);
    expect(() => parseLogHeader(bytes)).to.throw('version');
  });
});
