import { expect } from 'chai';
import * as fc from 'fast-check';
import { GenerationIndex, sectorState, sectorsPerGroup, wholeGroup } from '../../../../src/storage/overlay/generation-index.ts';
import { ZeroRanges } from '../../../../src/storage/overlay/zero-ranges.ts';

const sectors = 4096;

const change = fc.record({
  kind: fc.constantFrom('data', 'zeros', 'trimmed'),
  first: fc.nat(sectors - 1),
  count: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: sectors })),
});

/** What an index says of a sector, in the words of a plain array. */
function stateOf(index: GenerationIndex, sector: number): number {
  const slot = index.find(Math.floor(sector / sectorsPerGroup));
  if (slot === wholeGroup.absent) return sectorState.absent;
  if (slot === wholeGroup.zeros) return sectorState.zeros;
  if (slot === wholeGroup.trimmed) return sectorState.trimmed;
  return index.position(slot, sector % sectorsPerGroup);
}

describe('the index of a generation', () => {
  it('knows of every sector what was done to it last', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 60 }), (changes) => {
        const index = new GenerationIndex();
        const model = new Uint32Array(sectors);
        const checks = new Uint32Array(sectors);
        let position = 4096;
        for (const { kind, first, count: wanted } of changes) {
          const count = Math.min(wanted, sectors - first);
          if (kind === 'data') {
            const own = Uint32Array.from({ length: count }, (_, at) => position + at);
            index.setData(first, position, own);
            for (let at = 0; at < count; at += 1) {
              model[first + at] = position / 16 + at * 256;
              checks[first + at] = own[at]!;
            }
            position += count * 4096 + 1024;
          } else {
            index.setZeros(first, count, kind === 'trimmed');
            model.fill(kind === 'trimmed' ? sectorState.trimmed : sectorState.zeros, first, first + count);
          }
        }
        for (let sector = 0; sector < sectors; sector += 1) {
          const state = stateOf(index, sector);
          if (state !== model[sector]) throw new Error(`sector ${sector} is ${state}, not ${model[sector]}`);
          if (state < sectorState.firstPosition) continue;
          const check = index.check(index.find(Math.floor(sector / sectorsPerGroup)), sector % sectorsPerGroup);
          if (check !== checks[sector]) throw new Error(`sector ${sector} has check ${check}, not ${checks[sector]}`);
        }
        expect(index.isEmpty).to.equal(changes.length === 0);
      }),
      { numRuns: 300 },
    );
  });

  it('takes a whole huge disk as one stretch, and little memory for scattered writes', () => {
    const index = new GenerationIndex();
    index.setZeros(0, 2 ** 33, true);
    expect(index.memoryBytes).to.be.lessThan(100);
    expect(stateOf(index, 2 ** 33 - 1)).to.equal(sectorState.trimmed);
    for (let at = 0; at < 100_000; at += 1) index.setData(at * 80_000, 4096 + at * 4160, [at]);
    expect(stateOf(index, 80_000 * 99_999)).to.equal((4096 + 99_999 * 4160) / 16);
    expect(stateOf(index, 80_000 * 99_999 + 1)).to.equal(sectorState.trimmed);
    expect(index.memoryBytes).to.be.lessThan(100_000 * 180);
    index.setZeros(0, 2 ** 33, true);
    const emptied = index.memoryBytes;
    for (let at = 0; at < 100_000; at += 1) index.setData(at * 80_000, 4096 + at * 4160, [at]);
    expect(index.memoryBytes).to.be.at.most(emptied + 100_000 * 40);
  });
});

describe('ranges of zeros', () => {
  it('know of every place what it was set to last', () => {
    const set = fc.record({ start: fc.nat(99), length: fc.integer({ min: 1, max: 60 }), trimmed: fc.boolean() });
    fc.assert(
      fc.property(fc.array(set, { maxLength: 40 }), (sets) => {
        const ranges = new ZeroRanges();
        const model: (boolean | undefined)[] = Array.from({ length: 160 });
        for (const { start, length, trimmed } of sets) {
          ranges.set(start, start + length, trimmed);
          model.fill(trimmed, start, start + length);
        }
        for (const [at, expected] of model.entries()) {
          const found = ranges.find(at);
          const isRight =
            found?.trimmed === expected && (found === undefined || model.slice(at, found.end).every((is) => is === expected));
          if (!isRight) throw new Error(`place ${at} is ${JSON.stringify(found)}, not ${expected}`);
        }
        let previous = -1;
        for (const [start, end] of ranges.entries()) {
          expect(start).to.be.at.least(previous);
          expect(end).to.be.greaterThan(start);
          previous = end;
        }
        expect([...ranges.entries()].length).to.equal(ranges.count);
      }),
      { numRuns: 500 },
    );
  });
});
