import { expect } from 'chai';
import * as fc from 'fast-check';
import { deflateRawSync } from 'node:zlib';
import type { Extent } from '../../../src/formats/disk-image.ts';
import { assemble, mergeRanges } from '../../../src/formats/file-ranges.ts';

interface Disk {
  file: Buffer;
  guest: Buffer;
  extents: Extent[];
}

/** A disk of runs, stored in any order with gaps between them; packed units are used whole or in part. */
const disks: fc.Arbitrary<Disk> = fc
  .array(
    fc.record({
      kind: fc.constantFrom<Extent['kind']>('zero', 'raw', 'packed'),
      length: fc.integer({ min: 1, max: 400 }),
      gap: fc.integer({ min: 0, max: 300 }),
      skip: fc.integer({ min: 0, max: 50 }),
      fill: fc.integer({ min: 1, max: 255 }),
      order: fc.nat(),
    }),
    { minLength: 1, maxLength: 25 },
  )
  .map((runs) => {
    const places = new Map<number, number>();
    const pieces: Buffer[] = [];
    let fileBytes = 0;
    const stored = runs.map(({ kind, length, skip, fill }) => {
      if (kind === 'raw') return Buffer.alloc(length, fill);
      return deflateRawSync(Buffer.concat([Buffer.alloc(skip, 1), Buffer.alloc(length, fill), Buffer.alloc(skip, 2)]));
    });
    for (const index of [...runs.keys()].sort((a, b) => runs[a]!.order - runs[b]!.order)) {
      const run = runs[index]!;
      if (run.kind === 'zero') continue;
      pieces.push(Buffer.alloc(run.gap, 0xee), stored[index]!);
      places.set(index, fileBytes + run.gap);
      fileBytes += run.gap + stored[index]!.length;
    }
    const guest = Buffer.concat(runs.map(({ kind, length, fill }) => Buffer.alloc(length, kind === 'zero' ? 0 : fill)));
    let offset = 0;
    const extents = runs.map(({ kind, length, skip }, index): Extent => {
      const at = places.get(index)!;
      const start = offset;
      offset += length;
      if (kind === 'zero') return { kind, offset: start, length };
      if (kind === 'raw') return { kind, offset: start, length, at };
      const packedLength = stored[index]!.length;
      return { kind, offset: start, length, at, packedLength, codec: 'deflate-raw', skip, unitLength: length + 2 * skip };
    });
    return { file: Buffer.concat(pieces), guest, extents };
  });

describe('mergeRanges and assemble', () => {
  it('put together what was taken apart, within the limits', () => {
    fc.assert(
      fc.property(
        disks,
        fc.nat(500),
        fc.integer({ min: 1, max: 2000 }),
        ({ file, guest, extents }, maxGapBytes, maxRangeBytes) => {
          const base = 1_000_000;
          const moved = extents.map((extent) => Object.assign(structuredClone(extent), { offset: extent.offset + base }));
          const ranges = mergeRanges(moved, { maxGapBytes, maxRangeBytes });
          const target = Buffer.alloc(guest.length, 0xcc);
          assemble(
            target,
            base,
            moved.filter(({ kind }) => kind === 'zero'),
            Buffer.alloc(0),
            0,
          );
          for (const range of ranges) {
            const isOneUnit = range.extents.length === 1 && range.extents[0]!.kind === 'packed';
            expect(range.length).to.be.at.most(isOneUnit ? Infinity : maxRangeBytes);
            assemble(target, base, range.extents, file.subarray(range.at, range.at + range.length), range.at);
          }
          expect(target.equals(guest)).to.equal(true);
          for (const [index, range] of ranges.entries()) {
            const before = ranges[index - 1];
            if (before === undefined) continue;
            expect(range.at).to.be.at.least(before.at);
            // Two that are near and short enough were one.
            const could =
              range.at - (before.at + before.length) <= maxGapBytes &&
              range.at +
                range.extents.reduce(
                  (end, each) => Math.max(end, each.at - range.at + (each.kind === 'raw' ? each.length : each.packedLength)),
                  0,
                ) -
                before.at <=
                maxRangeBytes;
            expect(could).to.equal(false);
          }
        },
      ),
    );
  });

  it('reads neighbouring clusters with one request, and leaves out what is far', () => {
    const extents: Extent[] = [
      { kind: 'raw', offset: 0, length: 4096, at: 8192 },
      { kind: 'zero', offset: 4096, length: 4096 },
      { kind: 'raw', offset: 8192, length: 4096, at: 4096 },
      { kind: 'raw', offset: 12_288, length: 4096, at: 1_000_000 },
    ];
    const ranges = mergeRanges(extents, { maxGapBytes: 4096, maxRangeBytes: 1_048_576 });
    expect(ranges.map(({ at, length }) => [at, length])).to.deep.equal([
      [4096, 8192],
      [1_000_000, 4096],
    ]);
    expect(ranges[0]!.extents.map(({ offset }) => offset)).to.deep.equal([8192, 0]);
  });

  it('cuts a raw extent that is longer than a range may be', () => {
    const ranges = mergeRanges([{ kind: 'raw', offset: 0, length: 2500, at: 512 }], { maxGapBytes: 0, maxRangeBytes: 1000 });
    expect(ranges.map(({ at, length }) => [at, length])).to.deep.equal([
      [512, 1000],
      [1512, 1000],
      [2512, 500],
    ]);
  });

  it('throws RangeError for an extent outside of the target or of the bytes', () => {
    const raw: Extent = { kind: 'raw', offset: 100, length: 10, at: 50 };
    expect(() => assemble(new Uint8Array(9), 100, [raw], new Uint8Array(10), 50)).to.throw(RangeError);
    expect(() => assemble(new Uint8Array(10), 101, [raw], new Uint8Array(10), 50)).to.throw(RangeError);
    expect(() => assemble(new Uint8Array(10), 100, [raw], new Uint8Array(9), 50)).to.throw(RangeError);
    expect(() => assemble(new Uint8Array(10), 100, [raw], new Uint8Array(10), 51)).to.throw(RangeError);
  });
});
