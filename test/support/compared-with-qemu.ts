// The tests that VMDK and VHD share: every image of a matrix reads as qemu-img reads it, whole and in parts.
import { expect } from 'chai';
import { diskImageReader } from '../../src/formats/disk-image-reader.ts';
import type { Format } from '../../src/formats/disk-image.ts';
import { openDiskImage } from '../../src/formats/open.ts';
import { extentsOf } from './extents.ts';
import { firstDifference, forget, openFile, rawOf, requireQemuImg } from './images.ts';
import { isLongRun, randomFrom, sampleOf, testSeed } from './sample.ts';
import { makeSparse, type SparseRecipe } from './sparse-recipes.ts';

const limits = { maxSizeBytes: 2 ** 42, maxTableBytes: 2 ** 20 };

export function describeComparedWithQemu(format: Format, matrix: SparseRecipe[]): void {
  const recipes = isLongRun ? matrix : sampleOf(matrix, 8, testSeed);
  describe(`${format} as qemu-img writes it (${recipes.length} of ${matrix.length} images, OBRAZ_TEST_SEED=${testSeed})`, () => {
    before(function () {
      requireQemuImg(this);
    });

    for (const recipe of recipes) {
      const { options, sizeBytes, layout, holes } = recipe;
      it(`reads the bytes that qemu-img reads: ${[options, `${sizeBytes} bytes`, layout, holes].filter(Boolean).join(', ')}`, async () => {
        const path = await makeSparse(recipe);
        await using source = await openFile(path);
        const image = await openDiskImage(source, limits);
        expect(image.format).to.equal(format);
        expect(image.sizeBytes).to.be.at.least(sizeBytes);
        await extentsOf(image, source.sizeBytes);
        const reader = diskImageReader(image, source);
        await using raw = await rawOf(path, recipe.driver);
        expect(await firstDifference(reader, raw.path)).to.equal(undefined);

        const random = randomFrom(testSeed);
        await using whole = await openFile(raw.path);
        for (let round = 0; round < 20; round += 1) {
          const offset = Math.floor(random() * image.sizeBytes);
          const length = Math.floor(random() * random() * Math.min(2 ** 21, image.sizeBytes - offset));
          const ours = Buffer.alloc(length);
          const theirs = Buffer.alloc(length);
          await extentsOf(image, source.sizeBytes, offset, length);
          await Promise.all([reader.read(ours, offset), whole.read(theirs, offset)]);
          expect(ours.equals(theirs), `${length} bytes at ${offset}`).to.equal(true);
        }
        await forget(path);
      });
    }
  });
}
