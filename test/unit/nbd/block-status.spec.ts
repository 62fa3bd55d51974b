import { expect } from 'chai';
import * as fc from 'fast-check';
import { allocationRuns } from '../../../src/nbd/block-status.ts';
import { isZero, zeroRuns } from '../../../src/nbd/zero-runs.ts';
import { testSeed } from '../../support/sample.ts';

const property = { seed: testSeed, numRuns: 300 };

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
