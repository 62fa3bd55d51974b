import { expect } from 'chai';
import { fingerprint, fingerprintBy } from '../../../src/storage/reading/fingerprint.ts';
import { blockBytes } from '../../../src/storage/sizes.ts';

for (const [name, print] of [
  ['with its package', fingerprint],
  ['without it', fingerprintBy(undefined)],
] as const)
  describe(`a fingerprint, ${name}`, () => {
    it('is of the bytes alone, wherever they lie, and another one when a bit is', () => {
      const bytes = Buffer.alloc(blockBytes, 'bytes of a block');
      const shared = Buffer.from(new SharedArrayBuffer(blockBytes + 48), 48, blockBytes);
      bytes.copy(shared);
      const first = print(bytes);
      expect(first).to.be.within(1, Number.MAX_SAFE_INTEGER);
      expect(print(shared)).to.equal(first);
      for (let bit = 0; bit < blockBytes * 8; bit += 9973) {
        shared[bit >> 3]! ^= 1 << (bit & 7);
        expect(print(shared), `bit ${bit}`).not.to.equal(first);
        shared[bit >> 3]! ^= 1 << (bit & 7);
      }
      expect(print(Buffer.alloc(blockBytes))).to.be.greaterThan(0);
    });
  });

describe('the fingerprints of this machine', () => {
  it('are those of the package: XXH64 has more than 32 bits', () => {
    const most = Math.max(...[1, 2, 3, 4, 5, 6, 7, 8].map((byte) => fingerprint(Buffer.alloc(64, byte))));
    expect(most).to.be.greaterThan(2 ** 32);
  });
});
