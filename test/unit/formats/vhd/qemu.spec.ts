// VHD against qemu-img: what it writes itself, and what others write, by hand: creators, geometries, block sizes.
import { expect } from 'chai';
import { rm, writeFile } from 'node:fs/promises';
import { diskImageReader } from '../../../../src/formats/disk-image-reader.ts';
import { openDiskImage } from '../../../../src/formats/open.ts';
import { memorySource } from '../../../../src/platform/byte-source.ts';
import { describeComparedWithQemu } from '../../../support/compared-with-qemu.ts';
import { extentsOf } from '../../../support/extents.ts';
import { firstDifference, rawOf, requireQemuImg, scratchPath } from '../../../support/images.ts';
import { randomFrom } from '../../../support/sample.ts';
import { vhdMatrix } from '../../../support/sparse-recipes.ts';
import { dynamicVhd, fixedVhd } from '../../../support/vhd-file.ts';

describeComparedWithQemu('vhd', vhdMatrix());

const limits = { maxSizeBytes: 2 ** 42, maxTableBytes: 2 ** 20 };
const KiB = 1024;

/** Cylinders, heads and sectors as the specification computes them (appendix "CHS Calculation"), whose product is at most the size. */
function geometryOf(sizeBytes: number): [number, number, number] {
  const sectors = Math.min(sizeBytes / 512, 65_535 * 16 * 255);
  let sectorsPerTrack = 17;
  let cylinderTimesHeads = Math.floor(sectors / sectorsPerTrack);
  let heads = Math.max(4, Math.floor((cylinderTimesHeads + 1023) / 1024));
  if (cylinderTimesHeads >= heads * 1024 || heads > 16) {
    sectorsPerTrack = 31;
    heads = 16;
    cylinderTimesHeads = Math.floor(sectors / sectorsPerTrack);
  }
  if (cylinderTimesHeads >= heads * 1024) {
    sectorsPerTrack = 63;
    heads = 16;
    cylinderTimesHeads = Math.floor(sectors / sectorsPerTrack);
  }
  return [Math.floor(cylinderTimesHeads / heads), heads, sectorsPerTrack];
}

describe('VHD as others write it', () => {
  before(function () {
    requireQemuImg(this);
  });

  const random = randomFrom(1);
  const noise = (length: number): Buffer =>
    Buffer.from(Uint32Array.from({ length: length / 4 }, () => random() * 2 ** 32).buffer);

  const creators = [
    ['Virtual PC', 'vpc '],
    ['Hyper-V', 'win '],
    ['Disk2vhd', 'd2v '],
    ['XenServer', 'tap\0'],
    ['XenConverter', 'CTXS'],
  ] as const;
  for (const [name, creator] of creators) {
    it(`reads what qemu-img reads of ${name}'s, dynamic and fixed, of sizes that its geometry has and has not`, async () => {
      for (const sizeBytes of [4 * KiB * 17, 2 ** 20, 2 ** 20 + 512, 5 * 2 ** 20 + 17 * 512]) {
        const geometry = geometryOf(sizeBytes);
        const blockBytes = 512 * KiB;
        const blocks = new Map([
          [Math.ceil(sizeBytes / blockBytes) - 1, noise(blockBytes)],
          [0, noise(blockBytes)],
        ]);
        const dynamic = dynamicVhd({ creator, currentSize: BigInt(sizeBytes), geometry, blockBytes, blocks });
        const fixed = fixedVhd(noise(sizeBytes), { creator, geometry });
        for (const bytes of [dynamic, fixed]) {
          const path = scratchPath();
          await writeFile(path, bytes);
          try {
            const image = await openDiskImage(memorySource(bytes), limits);
            await extentsOf(image, bytes.length);
            await using raw = await rawOf(path, 'vpc');
            expect(await firstDifference(diskImageReader(image, memorySource(bytes)), raw.path)).to.equal(undefined);
          } finally {
            await rm(path, { force: true });
          }
        }
      }
    });
  }
});
