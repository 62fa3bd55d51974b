import { expect } from 'chai';
import * as fc from 'fast-check';
import { constants, deflateRawSync, deflateSync, zstdCompressSync } from 'node:zlib';
import type { Codec } from '../../../src/formats/disk-image.ts';
import { unpack } from '../../../src/formats/unpack.ts';
import { refusalOf } from '../../support/refusals.ts';

const pack: Record<Codec, (bytes: Uint8Array) => Buffer> = {
  'deflate-raw': (bytes) => deflateRawSync(bytes),
  zlib: (bytes) => deflateSync(bytes),
  zstd: (bytes) => zstdCompressSync(bytes),
};
const codecs = Object.keys(pack) as Codec[];

/** A zstd frame of one repeated byte, without a content size: 7 bytes that say how much they unpack to only while they do. */
function zstdRun(length: number, windowDescriptor = 0): Buffer {
  const parts = [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, windowDescriptor])];
  for (let done = 0; done < length; done += 1024) {
    const size = Math.min(1024, length - done);
    const header = (size << 3) | (1 << 1) | (done + size >= length ? 1 : 0);
    parts.push(Buffer.from([header & 255, (header >> 8) & 255, header >> 16, 0x2a]));
  }
  return Buffer.concat(parts);
}

describe('unpack', () => {
  for (const codec of codecs) {
    it(`answers what was packed, whatever follows the stream: ${codec}`, () => {
      fc.assert(
        fc.property(fc.uint8Array({ minLength: 1, maxLength: 5000 }), fc.uint8Array({ maxLength: 600 }), (bytes, rest) => {
          const target = new Uint8Array(bytes.length).fill(0xee);
          unpack(codec, Buffer.concat([pack[codec](bytes), rest]), target);
          expect(Buffer.from(target).equals(bytes)).to.equal(true);
        }),
      );
    });

    it(`refuses a stream that is longer or shorter than its unit: ${codec}`, async () => {
      const packed = pack[codec](Buffer.alloc(4096, 'abcd'));
      const target = new Uint8Array(4095);
      expect(await refusalOf(() => unpack(codec, packed, target, { at: 77 })))
        .to.include(`the ${codec} stream at 77`)
        .and.include('4095 bytes');
      expect(await refusalOf(() => unpack(codec, packed, new Uint8Array(4097)))).to.match(/4096 bytes long|corrupt/);
      expect(await refusalOf(() => unpack(codec, packed, new Uint8Array(1)))).to.include('must unpack to 1 bytes');
    });

    it(`refuses a stream that is cut short or damaged, at every place: ${codec}`, () => {
      const bytes = Buffer.from(Array.from({ length: 600 }, (_, index) => (index * index) % 251));
      const packed = pack[codec](bytes);
      for (let length = 0; length < packed.length; length += 1) {
        // The last byte of a checksum is all that deflate-raw does not have.
        expect(
          () => unpack(codec, packed.subarray(0, length), new Uint8Array(600)),
          `${length} of ${packed.length} bytes`,
        ).to.throw('must unpack to');
      }
    });

    it(`ends with the bytes or a refusal for any input: ${codec}`, () => {
      const packed = pack[codec](Buffer.alloc(3000, 'some text '));
      fc.assert(
        fc.property(fc.nat(packed.length - 1), fc.nat(255), fc.uint8Array({ maxLength: 30 }), (at, byte, noise) => {
          const damaged = Buffer.from(packed);
          damaged[at] = byte;
          for (const input of [damaged, noise])
            try {
              unpack(codec, input, new Uint8Array(3000));
            } catch (error) {
              expect(error).to.have.property('code', 'INVALID_ARGUMENT');
            }
        }),
        { numRuns: 500 },
      );
    });
  }

  it('never makes more than the unit out of a bomb', async () => {
    const target = new Uint8Array(65_536);
    const bomb = Buffer.alloc(64 * 2 ** 20);
    expect(await refusalOf(() => unpack('deflate-raw', deflateRawSync(bomb), target))).to.include('longer than 65536');
    expect(await refusalOf(() => unpack('zlib', deflateSync(bomb), target))).to.include('longer than 65536');
    // With its size in the header, and without.
    expect(await refusalOf(() => unpack('zstd', zstdCompressSync(bomb), target))).to.include('67108864 bytes long');
    expect(await refusalOf(() => unpack('zstd', zstdRun(2 ** 20), target))).to.include('longer than 65536');
  });

  it('refuses a zstd window that no unit needs, before it is allocated', async () => {
    // Exponent 21: 2 GiB. Exponent 13: 8 MiB, which every decoder must support.
    expect(await refusalOf(() => unpack('zstd', zstdRun(4096, 21 << 3), new Uint8Array(4096)))).to.include(
      'window of 2147483648 bytes',
    );
    const target = new Uint8Array(4096);
    unpack('zstd', zstdRun(4096, 13 << 3), target);
    expect(target.every((byte) => byte === 0x2a)).to.equal(true);
  });

  it('reads zstd frames one after the other, skippable ones in between, until the unit is full', () => {
    const skippable = Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    const withChecksum = zstdCompressSync(Buffer.alloc(100, 2), { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
    const target = new Uint8Array(300);
    unpack(
      'zstd',
      Buffer.concat([
        skippable,
        zstdCompressSync(Buffer.alloc(100, 1)),
        withChecksum,
        skippable,
        zstdRun(100),
        Buffer.alloc(50, 9),
      ]),
      target,
    );
    expect([...new Set(target)]).to.deep.equal([1, 2, 0x2a]);
  });

  it('refuses a unit of very many frames at once: each takes time, and none needs to hold a byte', async () => {
    const empty = Buffer.concat(Array.from({ length: 30_000 }, () => zstdCompressSync(Buffer.alloc(0))));
    expect(await refusalOf(() => unpack('zstd', empty, new Uint8Array(2 ** 21)))).to.include('more than 64 zstd frames');
    const few = Buffer.concat([...Array.from({ length: 63 }, () => zstdCompressSync(Buffer.alloc(0))), zstdRun(4096)]);
    const target = new Uint8Array(4096);
    unpack('zstd', few, target);
    expect(target.every((byte) => byte === 0x2a)).to.equal(true);
  });

  it('fills with zeros what a unit is allowed to lack', async () => {
    for (const codec of codecs) {
      if (codec === 'zstd') continue;
      const target = new Uint8Array(4096).fill(0xee);
      unpack(codec, pack[codec](Buffer.alloc(1024, 7)), target, { minLength: 1024 });
      expect(target.subarray(0, 1024).every((byte) => byte === 7) && target.subarray(1024).every((byte) => byte === 0)).to.equal(
        true,
      );
      expect(await refusalOf(() => unpack(codec, pack[codec](Buffer.alloc(1023, 7)), target, { minLength: 1024 }))).to.include(
        '1023 bytes long',
      );
    }
  });
});
