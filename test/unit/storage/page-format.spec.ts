import { createHash } from 'node:crypto';
import { expect } from 'chai';
import * as fc from 'fast-check';
import type { ChunkAddress, PageAddress } from '../../../src/storage/address.ts';
import { Damage } from '../../../src/storage/damage.ts';
import { sha256 } from '../../../src/storage/hash-algorithm.ts';
import {
  LeafPage,
  type LeafEntry,
  encodeLeafPage,
  encodeRootPage,
  pageAddress,
  parseRootPage,
} from '../../../src/storage/page-format.ts';

const hex = (seed: number) => createHash('sha256').update(`address ${seed}`).digest('hex');
const leafOf = (slots: readonly number[]) => new Map(slots.map((slot) => [slot, hex(slot) as ChunkAddress]));
const rootOf = (leaves: readonly [index: number, count: number][]) =>
  new Map(leaves.map(([index, count]): [number, LeafEntry] => [index, { count, address: hex(index) as PageAddress }]));
const slots = fc.uniqueArray(fc.nat(1023), { minLength: 1, maxLength: 1024 });

describe('page format', () => {
  it('is what stores already hold: pages and addresses never change', () => {
    expect(pageAddress(sha256, encodeLeafPage(leafOf([0, 7, 8, 1023])))).to.equal(
      '4f7fb4cb358a8e4a1230e094d7736ed377812a3d0df66f05dd04e678b8de3b3f',
    );
    expect(
      pageAddress(
        sha256,
        encodeRootPage(
          rootOf([
            [0, 4],
            [8191, 1024],
          ]),
        ),
      ),
    ).to.equal('b0dd0342fad83b3da744dbcb28f85f8a15fe622c9654d97f9c06fb2207d662cb');
    expect(pageAddress(sha256, encodeRootPage(new Map()))).to.equal(
      'cd9e35704e66f88aaf0ed30dbd87e2116545853dce6d80d9fb09560c928ff48d',
    );
  });

  it('has the address that the documentation says', () => {
    const page = encodeLeafPage(leafOf([1]));
    expect(pageAddress(sha256, page)).to.equal(createHash('sha256').update('obraz page v1\0').update(page).digest('hex'));
  });

  it('keeps every chunk of a leaf and no other', () => {
    fc.assert(
      fc.property(slots, fc.nat(1023), (present, from) => {
        const leaf = new LeafPage(encodeLeafPage(leafOf(present)));
        const expected = leafOf(present.toSorted((a, b) => a - b));
        expect(leaf.count).to.equal(present.length);
        expect([...leaf.entries()]).to.deep.equal([...expected]);
        expect([...leaf.entries(from)]).to.deep.equal([...expected].filter(([slot]) => slot >= from));
        for (let slot = 0; slot < 1024; slot += 1) expect(leaf.lookup(slot)).to.equal(expected.get(slot));
      }),
      { numRuns: 30 },
    );
  });

  it('keeps every leaf of a root, in order', () => {
    const root = parseRootPage(
      encodeRootPage(
        rootOf([
          [8191, 1024],
          [0, 1],
          [77, 3],
        ]),
      ),
    );
    expect(root.chunkCount).to.equal(1028);
    expect([...root.leaves.keys()]).to.deep.equal([0, 77, 8191]);
    expect(root.leaves.get(77)).to.deep.equal({ count: 3, address: hex(77) });
    expect(parseRootPage(encodeRootPage(new Map()))).to.deep.equal({ chunkCount: 0, leaves: new Map(), sizeBytes: 32 });
  });

  it('does not depend on the order in which chunks were set', () => {
    fc.assert(
      fc.property(
        slots.chain((present) => fc.tuple(fc.constant(present), fc.shuffledSubarray(present, { minLength: present.length }))),
        ([one, other]) => {
          expect(Buffer.compare(encodeLeafPage(leafOf(one)), encodeLeafPage(leafOf(other)))).to.equal(0);
        },
      ),
      { numRuns: 20 },
    );
  });

  it('refuses a leaf that contradicts itself', () => {
    const page = Buffer.from(encodeLeafPage(leafOf([0, 9, 500])));
    const faults: ((bytes: Buffer) => Buffer)[] = [
      (bytes) => bytes.subarray(0, -1),
      (bytes) => Buffer.concat([bytes, Buffer.alloc(1)]),
      (bytes) => Buffer.concat([bytes, Buffer.alloc(32)]),
      (bytes) => bytes.subarray(0, 143),
      () => Buffer.alloc(0),
      (bytes) => ((bytes[0]! ^= 1), bytes),
      (bytes) => (bytes.writeUInt32LE(4, 12), bytes),
      (bytes) => (bytes.writeUInt32LE(0xffffffff, 12), bytes),
      (bytes) => ((bytes[16]! |= 2), bytes),
      () => Buffer.from(encodeLeafPage(new Map())),
      () => Buffer.from(encodeRootPage(rootOf([[0, 1]]))),
    ];
    for (const [index, fault] of faults.entries())
      expect(() => new LeafPage(fault(Buffer.from(page))), String(index)).to.throw(Damage);
  });

  it('refuses a root that contradicts itself', () => {
    const page = Buffer.from(
      encodeRootPage(
        rootOf([
          [3, 10],
          [4, 1024],
        ]),
      ),
    );
    const faults: ((bytes: Buffer) => void)[] = [
      (bytes) => bytes.writeUInt32LE(4, 32),
      (bytes) => bytes.writeUInt32LE(5, 32),
      (bytes) => bytes.writeUInt32LE(8192, 72),
      (bytes) => bytes.writeUInt32LE(0, 36),
      (bytes) => bytes.writeUInt32LE(1025, 76),
      (bytes) => bytes.writeBigUInt64LE(1035n, 16),
      (bytes) => bytes.writeBigUInt64LE(2n ** 63n, 16),
      (bytes) => bytes.writeUInt32LE(1, 12),
      (bytes) => bytes.writeUInt32LE(0xffffffff, 12),
      (bytes) => (bytes[3]! ^= 4),
    ];
    for (const [index, fault] of faults.entries()) {
      const damaged = Buffer.from(page);
      fault(damaged);
      expect(() => parseRootPage(damaged), String(index)).to.throw(Damage);
    }
    expect(() => parseRootPage(page.subarray(0, 31))).to.throw(Damage);
    expect(() => parseRootPage(page.subarray(0, 111))).to.throw(Damage);
  });

  it('does not take a later version for damage', () => {
    for (const make of [() => encodeLeafPage(leafOf([0])), () => encodeRootPage(new Map())]) {
      const page = Buffer.from(make());
      page[8] = 2;
      const parse = () => (page.toString('latin1', 4, 8) === 'leaf' ? new LeafPage(page) : parseRootPage(page));
      expect(parse).to.throw('does not know').and.not.instanceOf(Damage);
    }
  });
});
