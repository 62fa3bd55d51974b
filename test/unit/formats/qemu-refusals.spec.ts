// What qemu-img itself makes and is not imported: refused by name, with the command that helps.
import { expect } from 'chai';
import { open, readdir, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { openDiskImage } from '../../../src/formats/open.ts';
import { openFile, qemuImg, requireQemuImg, scratchPath } from '../../support/images.ts';
import { refusalOf } from '../../support/refusals.ts';

const limits = { maxSizeBytes: 2 ** 42, maxTableBytes: 2 ** 20 };

/** Opens the file that `make` leaves at `path`, or at the name it answers, and walks it; all that it made is removed. */
async function refusalOfMade(make: (path: string) => Promise<string | void>): Promise<string> {
  const path = scratchPath();
  try {
    await using source = await openFile((await make(path)) ?? path);
    const walk = async (): Promise<void> => {
      const image = await openDiskImage(source, limits);
      for await (const _ of image.extents(0, image.sizeBytes));
    };
    return await refusalOf(walk());
  } finally {
    const names = (await readdir(dirname(path))).filter((name) => name.startsWith(basename(path)));
    await Promise.all(names.map((name) => rm(join(dirname(path), name), { force: true })));
  }
}

const create = (format: string, options?: string) => async (path: string) => {
  await qemuImg('create', '-q', '-f', format, ...(options === undefined ? [] : ['-o', options]), path, '8M');
};

describe('what qemu-img makes and is not imported', () => {
  before(function () {
    requireQemuImg(this);
  });

  const cases: [name: string, make: (path: string) => Promise<string | void>, ...said: string[]][] = [
    ['VHDX', create('vhdx'), 'VHDX', '-f vhdx'],
    ['VDI', create('vdi'), 'VDI', '-f vdi'],
    ['QED', create('qed'), 'QED', '-f qed'],
    ['Parallels', create('parallels'), 'Parallels', '-f parallels'],
    ['Qcow version 1', create('qcow'), 'version 1', '-f qcow'],
    ['a flat VMDK', create('vmdk', 'subformat=monolithicFlat'), 'descriptor of a VMDK', '-f vmdk'],
    ['a split VMDK', create('vmdk', 'subformat=twoGbMaxExtentSparse'), 'descriptor of a VMDK'],
    [
      'an extent of a split VMDK',
      async (path) => {
        await create('vmdk', 'subformat=twoGbMaxExtentSparse')(`${path}.vmdk`);
        return `${path}-s001.vmdk`;
      },
      'the descriptor is ""',
      'split disk',
    ],
    [
      'a VMDK with a backing file',
      async (path) => {
        await create('vmdk')(`${path}-base`);
        await qemuImg('create', '-q', '-f', 'vmdk', '-b', `${path}-base`, '-F', 'vmdk', path);
      },
      'parentFileNameHint',
      'never followed',
    ],
    [
      'a Qcow2 with a backing file',
      async (path) => {
        await create('raw')(`${path}-base`);
        await qemuImg('create', '-q', '-f', 'qcow2', '-b', `${path}-base`, '-F', 'raw', path);
      },
      'backing_file_offset',
      'qemu-img convert -f qcow2 -O qcow2',
    ],
    ['a Qcow2 with an external data file', async (path) => create('qcow2', `data_file=${path}-data`)(path), 'external data file'],
    [
      'a Qcow2 that LUKS encrypts',
      // qemu-img times the machine before it makes a key, and fails where a clock is coarse: what makes the image LUKS is written by hand.
      async (path) => {
        await create('qcow2')(path);
        await using file = await open(path, 'r+');
        await file.write(Uint8Array.of(0, 0, 0, 2), 0, 4, 32);
      },
      'crypt_method is 2',
    ],
    [
      'a Qcow2 that was cut short',
      async (path) => {
        const raw = `${path}-raw`;
        await writeFile(raw, Buffer.alloc(8 * 2 ** 20, 'data '));
        await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, `${path}-whole`);
        await using whole = await openFile(`${path}-whole`);
        const part = Buffer.alloc(5 * 2 ** 20);
        await whole.read(part, 0);
        await writeFile(path, part);
      },
      'cut short',
    ],
  ];
  for (const [name, make, ...said] of cases) {
    it(`refuses ${name}`, async () => {
      const message = await refusalOfMade(make);
      for (const part of said) expect(message).to.include(part);
    });
  }
});
