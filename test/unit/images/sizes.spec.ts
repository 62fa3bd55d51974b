import { expect } from 'chai';
import { resolveMinDiskSize, roundUpToStep } from '../../../src/images/sizes.ts';

const MiB = 1024 * 1024;

describe('sizes of images', () => {
  for (const [bytes, rounded] of [
    [1, 4 * MiB],
    [4 * MiB, 4 * MiB],
    [4 * MiB + 1, 8 * MiB],
    [2 ** 42 - 1, 2 ** 42],
  ] as const) {
    it(`rounds ${bytes} bytes up to ${rounded}`, () => expect(roundUpToStep(bytes)).to.equal(rounded));
  }

  it('takes the least that holds the image when no min_disk_size is given', () => {
    expect(resolveMinDiskSize(0, 10 * MiB)).to.equal(12 * MiB);
  });

  it('takes the fallback when it is larger, never when it is smaller', () => {
    expect(resolveMinDiskSize(0, 10 * MiB, 20 * MiB)).to.equal(20 * MiB);
    expect(resolveMinDiskSize(0, 10 * MiB, 4 * MiB)).to.equal(12 * MiB);
  });

  it('takes what is requested from the least on', () => {
    expect(resolveMinDiskSize(12 * MiB, 10 * MiB)).to.equal(12 * MiB);
    expect(resolveMinDiskSize(12 * MiB + 1, 10 * MiB)).to.equal(12 * MiB + 1);
  });

  it('refuses less with the documented text', () => {
    expect(() => resolveMinDiskSize(12 * MiB - 1, 10 * MiB)).to.throw(
      'Minimal disk size should be greater or equal than 12582912',
    );
  });
});
