import { expect } from 'chai';
import { diskTypes } from '../../../src/catalog/disk-types.ts';
import { assertHolds, assertSizeFits, maxDiskBytes, parseBlockSize } from '../../../src/disks/sizes.ts';
import { DomainError } from '../../../src/platform/errors.ts';
import { chunkBytes } from '../../../src/storage/sizes.ts';

const MiB = 1024 ** 2;
const GiB = 1024 ** 3;
const TiB = 1024 ** 4;

const typeOf = (id: string) => diskTypes.find((type) => type.id === id)!;

const refusal = (work: () => unknown): DomainError => {
  try {
    work();
  } catch (error) {
    if (error instanceof DomainError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
};

describe('sizes of disks', () => {
  for (const [block, most] of [
    [4096, 8],
    [8192, 16],
    [16384, 32],
    [32768, 64],
    [65536, 128],
    [131072, 256],
  ] as const) {
    it(`are at most ${most} TiB with blocks of ${block}`, () => {
      expect(parseBlockSize(BigInt(block))).to.equal(block);
      expect(maxDiskBytes(block)).to.equal(most * TiB);
      assertSizeFits(most * TiB, typeOf('network-ssd'), block);
      const error = refusal(() => assertSizeFits(most * TiB + 4 * MiB, typeOf('network-ssd'), block));
      expect(error).to.include({ code: 'INVALID_ARGUMENT' });
      expect(error.message).to.include(String(most * TiB));
    });
  }

  it('take 4096 as the block size that is not given', () => expect(parseBlockSize(0n)).to.equal(4096));

  for (const block of [1n, -4096n, 512n, 2048n, 4095n, 4097n, 12288n, 262144n, 2n ** 62n]) {
    it(`refuse blocks of ${block}`, () => {
      expect(refusal(() => parseBlockSize(block)).message).to.match(/^block_size: must be a power of two from 4096 to 131072/);
    });
  }

  for (const [type, step] of [
    ['network-hdd', 4 * MiB],
    ['network-ssd', 4 * MiB],
    ['network-ssd-nonreplicated', 93 * GiB],
    ['network-ssd-io-m3', 93 * GiB],
  ] as const) {
    it(`are multiples of ${step} for ${type}, which are whole chunks`, () => {
      expect(step % chunkBytes).to.equal(0);
      for (const count of [1, 2, 7]) assertSizeFits(step * count, typeOf(type), 4096);
      for (const size of [step - 4 * MiB + 1, step + 1, step + 512]) {
        expect(refusal(() => assertSizeFits(size, typeOf(type), 4096)).message).to.include(`multiple of ${step} for ${type}`);
      }
    });
  }

  it('hold what the disk is made of', () => {
    assertHolds(8 * MiB, 'image x', 8 * MiB);
    expect(refusal(() => assertHolds(4 * MiB, 'image x', 8 * MiB)).message).to.equal(
      `size: must be at least ${8 * MiB} for image x, not ${4 * MiB}`,
    );
  });
});
