// The Qcow2 decoder against qemu-img: same bytes, over a matrix of every option and size around every boundary.
import { expect } from 'chai';
import { diskImageReader } from '../../../../src/formats/disk-image-reader.ts';
import { openDiskImage } from '../../../../src/formats/open.ts';
import { extentsOf } from '../../../support/extents.ts';
import { firstDifference, forget, openFile, rawOf, requireQemuImg } from '../../../support/images.ts';
import { isLongRun, randomFrom, sampleOf, testSeed } from '../../../support/sample.ts';
import { describeRecipe, makeQcow2, qcow2Matrix } from '../../../support/qcow2-recipes.ts';

const limits = { maxSizeBytes: 2 ** 42, maxTableBytes: 64 * 2 ** 20 };
const matrix = qcow2Matrix();
const recipes = isLongRun ? matrix : sampleOf(matrix, 20, testSeed);

describe(`Qcow2 as qemu-img writes it (${recipes.length} of ${matrix.length} images, OBRAZ_TEST_SEED=${testSeed})`, () => {
  before(function () {
    requireQemuImg(this);
  });

  for (const recipe of recipes) {
    it(`reads the bytes that qemu-img reads: ${describeRecipe(recipe)}`, async () => {
      const path = await makeQcow2(recipe);
      await using source = await openFile(path);
      const image = await openDiskImage(source, limits);
      if (recipe.aborted === true) {
        const features = Buffer.alloc(8);
        await source.read(features, 72);
        expect(features.readBigUInt64BE()).to.equal(1n);
      }
      expect(image).to.include({ format: 'qcow2', sizeBytes: recipe.sizeBytes });
      await extentsOf(image, source.sizeBytes);
      const reader = diskImageReader(image, source);
      await using raw = await rawOf(path, 'qcow2');
      expect(await firstDifference(reader, raw.path)).to.equal(undefined);
      await forget(path);
    });
  }

  it('answers any range like the same range of the whole', async () => {
    const random = randomFrom(testSeed);
    for (const recipe of sampleOf(
      matrix.filter(({ sizeBytes }) => sizeBytes <= 2 ** 23),
      isLongRun ? 60 : 8,
      testSeed,
    )) {
      const path = await makeQcow2(recipe);
      await using source = await openFile(path);
      await using raw = await rawOf(path, 'qcow2');
      await using whole = await openFile(raw.path);
      // A cache of nearly nothing: pieces are evicted and read again.
      const image = await openDiskImage(source, { ...limits, maxTableBytes: 2 ** 20 });
      const reader = diskImageReader(image, source);
      for (let round = 0; round < 40; round += 1) {
        const offset = Math.floor(random() * image.sizeBytes);
        const length = Math.floor(random() * random() * (image.sizeBytes - offset));
        const ours = Buffer.alloc(length);
        const theirs = Buffer.alloc(length);
        await Promise.all([reader.read(ours, offset), whole.read(theirs, offset)]);
        expect(ours.equals(theirs), `${length} bytes at ${offset} of ${describeRecipe(recipe)}`).to.equal(true);
      }
    }
  });
});
