import { expect } from 'chai';
import * as fc from 'fast-check';
import { deflateRawSync, deflateSync } from 'node:zlib';
import { byCopy, createInflater, type Inflate } from '../../../src/formats/inflater.ts';

/** What an inflate does with an input: the bytes, or that it refuses. */
function outcome(inflate: Inflate, packed: Uint8Array, unitLength: number): string {
  const target = new Uint8Array(unitLength);
  try {
    const filled = inflate(packed, target);
    return Buffer.from(target.subarray(0, filled)).toString('hex');
  } catch (error) {
    expect((error as NodeJS.ErrnoException).code).to.match(/^Z_|^ERR_BUFFER_TOO_LARGE$/);
    return 'refused';
  }
}

describe('An inflater', () => {
  for (const [codec, pack] of [
    ['deflate-raw', deflateRawSync],
    ['zlib', deflateSync],
  ] as const) {
    it(`works in place on this Node, and as the public functions do: ${codec}`, () => {
      const inflate = createInflater(codec);
      expect(String(inflate)).to.not.equal(String(byCopy(codec)));
      const input = fc.record({
        bytes: fc.uint8Array({ maxLength: 3000 }),
        unitLength: fc.option(fc.integer({ min: 1, max: 3100 })),
        cut: fc.option(fc.nat(3000)),
        damagedAt: fc.option(fc.nat(3000)),
        rest: fc.uint8Array({ maxLength: 20 }),
      });
      fc.assert(
        fc.property(input, ({ bytes, unitLength, cut, damagedAt, rest }) => {
          const packed = Buffer.concat([pack(bytes).subarray(0, cut ?? undefined), rest]);
          if (damagedAt !== null && packed.length > 0) packed[damagedAt % packed.length]! ^= 0x55;
          const length = unitLength ?? Math.max(1, bytes.length);
          expect(outcome(inflate, packed, length)).to.equal(outcome(byCopy(codec), packed, length));
        }),
        { numRuns: 2000 },
      );
    });
  }

  it('can be used again after a stream that it refused', () => {
    const inflate = createInflater('deflate-raw');
    const bytes = Buffer.from('as good as new');
    expect(outcome(inflate, Buffer.from([255, 255, 255]), 10)).to.equal('refused');
    expect(outcome(inflate, deflateRawSync(bytes), bytes.length)).to.equal(bytes.toString('hex'));
  });
});
