import { expect } from 'chai';
import * as fc from 'fast-check';
import { constants, zstdCompressSync } from 'node:zlib';
import { byCopy, createZstdDecoder, type UnpackFrame } from '../../../src/formats/zstd-decoder.ts';
import { readZstdFrame } from '../../../src/formats/zstd-frame.ts';

/** What a decoder does with a frame: the bytes, or that it refuses. */
function outcome(unpackFrame: UnpackFrame, packed: Uint8Array, unitLength: number): string {
  const frame = readZstdFrame(packed, 0);
  // unpack.ts calls it for nothing else.
  if (typeof frame === 'string' || frame.kind !== 'data' || (frame.contentBytes ?? 0) > unitLength) return 'no frame';
  if (frame.windowBytes > 8 * 1024 * 1024) return 'no frame';
  const target = new Uint8Array(unitLength);
  try {
    const filled = unpackFrame(packed.subarray(0, frame.length), frame.contentBytes, target);
    return Buffer.from(target.subarray(0, filled)).toString('hex');
  } catch (error) {
    expect((error as NodeJS.ErrnoException).code).to.match(/^ZSTD_|^Z_|^ERR_BUFFER_TOO_LARGE$/);
    return 'refused';
  }
}

describe('A zstd decoder', () => {
  const unpackFrame = createZstdDecoder();

  it('works in place on this Node, and as the public function does', () => {
    expect(unpackFrame).to.not.equal(byCopy);
    const input = fc.record({
      bytes: fc.oneof(
        fc.uint8Array({ maxLength: 3000 }),
        // Compresses well, and spans several blocks of 128 KiB.
        fc.tuple(fc.nat(255), fc.integer({ min: 1, max: 300_000 })).map(([value, length]) => new Uint8Array(length).fill(value)),
      ),
      hasChecksum: fc.boolean(),
      hasLength: fc.boolean(),
      more: fc.nat(100),
      damagedAt: fc.option(fc.nat(3000)),
      rest: fc.uint8Array({ maxLength: 20 }),
    });
    const seen = new Set<string>();
    fc.assert(
      fc.property(input, ({ bytes, hasChecksum, hasLength, more, damagedAt, rest }) => {
        const params = {
          [constants.ZSTD_c_checksumFlag]: hasChecksum ? 1 : 0,
          [constants.ZSTD_c_contentSizeFlag]: hasLength ? 1 : 0,
        };
        const packed = Buffer.concat([zstdCompressSync(bytes, { params, pledgedSrcSize: bytes.length }), rest]);
        if (damagedAt !== null) packed[damagedAt % packed.length]! ^= 0x55;
        const length = Math.max(1, bytes.length + more);
        const expected = outcome(byCopy, packed, length);
        seen.add(expected === 'refused' || expected === 'no frame' ? expected : 'unpacked');
        expect(outcome(unpackFrame, packed, length)).to.equal(expected);
        // The state is as good as new, whatever it met.
        const after = zstdCompressSync(bytes, { pledgedSrcSize: bytes.length });
        expect(outcome(unpackFrame, after, length)).to.equal(Buffer.from(bytes).toString('hex'));
      }),
      { numRuns: 500 },
    );
    expect([...seen].sort()).to.deep.equal(['no frame', 'refused', 'unpacked']);
  });
});
