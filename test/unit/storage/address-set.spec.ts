import { createHash } from 'node:crypto';
import { expect } from 'chai';
import type { ChunkAddress } from '../../../src/storage/address.ts';
import { AddressSet } from '../../../src/storage/address-set.ts';

const address = (seed: number) => createHash('sha256').update(String(seed)).digest('hex') as ChunkAddress;

describe('address set', () => {
  it('holds what was added, and nothing else, while it grows', () => {
    const set = new AddressSet();
    for (let seed = 0; seed < 20_000; seed += 1) {
      expect(set.has(address(seed))).to.equal(false);
      expect(set.add(address(seed))).to.equal(true);
    }
    for (let seed = 0; seed < 20_000; seed += 1) {
      expect(set.has(address(seed))).to.equal(true);
      expect(set.add(address(seed))).to.equal(false);
    }
    for (let seed = 20_000; seed < 40_000; seed += 1) expect(set.has(address(seed))).to.equal(false);
    expect(set.size).to.equal(20_000);
  });

  it('tells apart addresses that agree in all but one digit of their first half, and holds zeros', () => {
    const set = new AddressSet();
    const zeros = '0'.repeat(64) as ChunkAddress;
    expect(set.has(zeros)).to.equal(false);
    expect(set.add(zeros)).to.equal(true);
    for (let digit = 0; digit < 32; digit += 1) {
      const near = (zeros.slice(0, digit) + 'f' + zeros.slice(digit + 1)) as ChunkAddress;
      expect(set.has(near)).to.equal(false);
      expect(set.add(near)).to.equal(true);
    }
    expect(set.has(zeros)).to.equal(true);
    expect(set.size).to.equal(33);
  });
});
