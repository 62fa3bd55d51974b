import { expect } from 'chai';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { diskImageReader } from '../../../../src/formats/disk-image-reader.ts';
import { openDiskImage } from '../../../../src/formats/open.ts';
import { type ByteSource, memorySource, readBytes } from '../../../../src/platform/byte-source.ts';
import { extentsOf } from '../../../support/extents.ts';
import { firstDifference, rawOf, requireQemuImg, scratchPath } from '../../../support/images.ts';
import { randomFrom } from '../../../support/sample.ts';
import { refusalOf } from '../../../support/refusals.ts';
import { vmdkDescriptor, vmdkFile, type VmdkFileOptions } from '../../../support/vmdk-file.ts';

const limits = { maxSizeBytes: 2 ** 42, maxTableBytes: 2 ** 20 };
const grainBytes = 65_536;

const open = (bytes: Uint8Array) => openDiskImage(memorySource(bytes), limits);

/** The guest's bytes, after the extents were checked. */
async function guestOf(bytes: Uint8Array): Promise<Buffer> {
  const image = await open(bytes);
  await extentsOf(image, bytes.length);
  return Buffer.from(await readBytes(diskImageReader(image, memorySource(bytes)), 0, image.sizeBytes));
}

const text = (grain: number, length = grainBytes): Buffer => Buffer.alloc(length, `grain ${grain} `);

function noise(seed: number): Buffer {
  const random = randomFrom(seed);
  return Buffer.from(Uint32Array.from({ length: grainBytes / 4 }, () => random() * 2 ** 32).buffer);
}

function guest(sizeBytes: number, grains: Map<number, Buffer | 'zero'>): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  for (const [grain, data] of grains) if (data !== 'zero') data.copy(bytes, grain * grainBytes);
  return bytes;
}

const grains = new Map<number, Buffer | 'zero'>([
  [0, text(0)],
  [1, noise(1)],
  [2, text(2)],
  [30, 'zero'],
  [63, text(63)],
]);

describe('a stream-optimized VMDK as VMware writes it', () => {
  it('is read by its footer, its markers and its directory at the end', async () => {
    const bytes = vmdkFile({ grains, zeroGrains: true });
    expect((await guestOf(bytes)).equals(guest(4 * 2 ** 20, grains))).to.equal(true);
  });

  it('is read the same by qemu-img where VirtualBox has rounded the capacity up to a grain, but for the rest of the grain', async function () {
    requireQemuImg(this);
    for (const sizeBytes of [20 * grainBytes + 512, 20 * grainBytes + 33 * 1024]) {
      const data = new Map([
        [0, text(0)],
        [20, text(20)],
      ]);
      const bytes = vmdkFile({ sizeBytes, grains: data });
      const path = scratchPath();
      await writeFile(path, bytes);
      try {
        const ours = await guestOf(bytes);
        expect(ours).to.have.length(sizeBytes);
        await using raw = await rawOf(path, 'vmdk');
        const theirs = await readFile(raw.path);
        expect(theirs).to.have.length(21 * grainBytes);
        expect(theirs.subarray(0, sizeBytes).equals(ours)).to.equal(true);
      } finally {
        await rm(path, { force: true });
      }
    }
  });

  it('is read the same by qemu-img, in every version and order', async function () {
    requireQemuImg(this);
    const variants: VmdkFileOptions[] = [1, 2, 3].flatMap((version) => [
      { version, grains, zeroGrains: true },
      { version, grains, zeroGrains: true, order: [63, 2, 30, 0, 1] },
      {
        version,
        grains: new Map([
          [0, text(0)],
          [600, text(600)],
          [1100, noise(7)],
        ]),
        sizeBytes: 100 * 2 ** 20,
      },
    ]);
    for (const options of variants) {
      const bytes = vmdkFile(options);
      const path = scratchPath();
      await writeFile(path, bytes);
      try {
        await using raw = await rawOf(path, 'vmdk');
        const image = await open(bytes);
        await extentsOf(image, bytes.length);
        expect(await firstDifference(diskImageReader(image, memorySource(bytes)), raw.path)).to.equal(undefined);
      } finally {
        await rm(path, { force: true });
      }
    }
  });

  it('is fetched in file order, once: no byte of a grain lies in two ranges', async () => {
    const many = new Map<number, Buffer | 'zero'>();
    for (let grain = 0; grain < 700; grain += 1) many.set(grain, grain % 20 === 0 ? noise(grain) : text(grain));
    const sizeBytes = 700 * grainBytes;
    const bytes = vmdkFile({ grains: many, sizeBytes });
    const extents = await extentsOf(await open(bytes), bytes.length);
    let fetched = 0;
    let position = 0;
    for (const extent of extents) {
      if (extent.kind !== 'packed') continue;
      expect(extent.at).to.be.at.least(position);
      position = extent.at + extent.packedLength;
      fetched += extent.packedLength;
    }
    expect(fetched).to.be.below(bytes.length);
    expect((await guestOf(bytes)).equals(guest(sizeBytes, many))).to.equal(true);
  });

  it('may hold less than a grain in its last one, or more than the disk', async () => {
    const sizeBytes = 2 * grainBytes + 1024;
    for (const last of [text(2, 1024), text(2, grainBytes)]) {
      const bytes = vmdkFile({ sizeBytes, grains: new Map([[2, last]]) });
      const read = await guestOf(bytes);
      expect(read).to.have.length(sizeBytes);
      expect(read.subarray(2 * grainBytes).equals(text(2, 1024))).to.equal(true);
    }
    expect(await refusalOf(guestOf(vmdkFile({ sizeBytes, grains: new Map([[2, text(2, 1023)]]) })))).to.include(
      '1023 bytes long',
    );
    expect(await refusalOf(guestOf(vmdkFile({ sizeBytes, grains: new Map([[1, text(1, 1024)]]) })))).to.include(
      '1024 bytes long',
    );
    expect(await refusalOf(guestOf(vmdkFile({ sizeBytes, grains: new Map([[1, text(1, grainBytes + 1)]]) })))).to.include(
      'longer than 65536',
    );
  });

  it('takes its size from the descriptor when the capacity is rounded up to a grain', async () => {
    const image = await open(vmdkFile({ sizeBytes: 10 * grainBytes + 512 }));
    expect(image).to.include({ format: 'vmdk', sizeBytes: 10 * grainBytes + 512 });
  });

  it('is read raw where it is not compressed', async () => {
    const descriptor = vmdkDescriptor(8192, { type: 'createType="monolithicSparse"' });
    const bytes = vmdkFile({ grains, zeroGrains: true, compressed: false, descriptor });
    expect((await guestOf(bytes)).equals(guest(4 * 2 ** 20, grains))).to.equal(true);
  });

  it('walks an empty terabyte without reading a table', async () => {
    const bytes = vmdkFile({ sizeBytes: 2 ** 40 });
    let isOpen = false;
    const source: ByteSource = {
      ...memorySource(bytes),
      read: (target, offset) => (isOpen ? Promise.reject(new Error('read')) : memorySource(bytes).read(target, offset)),
    };
    const image = await openDiskImage(source, { ...limits, maxTableBytes: 4 * 2 ** 20 });
    isOpen = true;
    expect(await extentsOf(image, bytes.length)).to.deep.equal([{ kind: 'zero', offset: 0, length: 2 ** 40 }]);
  });
});

/** A valid file with some of its bytes changed, in header and footer alike. */
function patched(patches: [at: number, value: number | bigint | number[]][], options: VmdkFileOptions = {}): Buffer {
  const bytes = vmdkFile({ grains, zeroGrains: true, ...options });
  for (const base of [0, bytes.length - 1024])
    for (const [at, value] of patches) {
      if (typeof value === 'bigint') bytes.writeBigUInt64LE(value, base + at);
      else if (typeof value === 'number') bytes.writeUInt32LE(value, base + at);
      else Buffer.from(value).copy(bytes, base + at);
    }
  return bytes;
}

/** With one line of the descriptor changed. */
const described = (changes: Record<string, string>, sectors = 8192): Buffer =>
  vmdkFile({ grains, zeroGrains: true, descriptor: vmdkDescriptor(sectors, changes) });

/** With the last three sectors changed. */
function ended(change: (end: Buffer) => void): Buffer {
  const bytes = vmdkFile({ grains, zeroGrains: true });
  change(bytes.subarray(-1536));
  return bytes;
}

/** With an entry of the first grain table changed. */
function tabled(change: (table: Buffer, file: Buffer) => void): Buffer {
  const bytes = vmdkFile({ grains, zeroGrains: true });
  const directoryAt = Number(bytes.readBigUInt64LE(bytes.length - 1024 + 56)) * 512;
  const tableAt = bytes.readUInt32LE(directoryAt) * 512;
  change(bytes.subarray(tableAt, tableAt + 2048), bytes);
  return bytes;
}

describe('a VMDK', () => {
  const wrong: [name: string, file: () => Buffer, ...said: string[]][] = [
    ['version 0', () => patched([[4, 0]]), 'version is 0', 'from 1 to 3'],
    ['version 4', () => patched([[4, 4]]), 'version is 4', 'qemu-img convert -f vmdk'],
    ['line ends changed by a transfer as text', () => patched([[73, [0x0a, 0x20, 0x0a, 0x0a]]]), 'new line test', 'binary'],
    ['a capacity of 0', () => patched([[12, 0n]]), 'capacity is 0', 'other files'],
    ['a capacity of exabytes', () => patched([[12, 2n ** 60n]]), 'capacity is', `at most ${2 ** 42}`],
    ['a capacity of 2^64 - 1', () => patched([[12, 2n ** 64n - 1n]]), 'capacity is'],
    ['a grain of 0', () => patched([[20, 0n]]), 'grainSize is 0'],
    ['a grain of 1 sector', () => patched([[20, 1n]]), 'grainSize is 1', 'power of two from 8'],
    ['a grain of 1 GiB', () => patched([[20, 2n ** 21n]]), 'grainSize is 2097152', 'to 8192'],
    ['a grain of 100 sectors', () => patched([[20, 100n]]), 'grainSize is 100'],
    ['grain tables of 0 entries', () => patched([[44, 0]]), 'numGTEsPerGT is 0', 'must be 512'],
    ['grain tables of 2^32 - 1 entries', () => patched([[44, 0xffff_ffff]]), 'numGTEsPerGT is 4294967295'],
    ['an unknown compression', () => patched([[77, [2, 0]]]), 'compressAlgorithm is 2'],
    ['compression without its flag', () => patched([[8, 0x2_0001]]), 'compressAlgorithm is 1', 'flag bit 16'],
    ['no descriptor', () => patched([[28, 0n]]), 'descriptorOffset is 0', 'split disk'],
    ['a descriptor past the end', () => patched([[28, 2n ** 40n]]), 'descriptorOffset is 1099511627776', 'end of the file'],
    ['a descriptor of 1 MiB', () => patched([[36, 2048n]]), 'descriptorSize is 2048', 'at most 2047'],
    ['no grain directory', () => patched([[56, 0n]]), 'gdOffset is 0'],
    ['a grain directory past the end', () => patched([[56, 2n ** 40n]]), 'gdOffset is 1099511627776'],
    ['an overhead past the end', () => patched([[64, 2n ** 40n]]), 'overHead is 1099511627776'],
    ['no footer', () => vmdkFile({ grains }).subarray(0, -1536), 'must be preceded by a footer'],
    ['a footer that is cut short', () => vmdkFile({ grains }).subarray(0, -512), 'must be preceded by a footer'],
    ['a footer without its marker', () => ended((end) => end.writeUInt32LE(2, 12)), 'must be preceded by a footer'],
    [
      'a footer without the end-of-stream marker',
      () => ended((end) => end.writeUInt32LE(1, 1024 + 12)),
      'must be preceded by a footer',
    ],
    ['a footer without its magic', () => ended((end) => end.writeUInt32LE(0, 512)), 'must be preceded by a footer'],
    ['a footer of another version', () => ended((end) => end.writeUInt32LE(1, 516)), 'version of the footer is 1', 'must be 3'],
    [
      'a footer of another capacity',
      () => ended((end) => end.writeBigUInt64LE(128n, 524)),
      'capacitySectors of the footer is 128',
    ],
    ['a footer of another grain', () => ended((end) => end.writeBigUInt64LE(64n, 532)), 'grainBytes of the footer'],
    ['a footer of other flags', () => ended((end) => end.writeUInt32LE(0x3_0000, 520)), 'flags of the footer'],
    ['a footer that points on', () => ended((end) => end.writeBigUInt64LE(2n ** 64n - 1n, 568)), 'gdOffset of the footer'],
    ['a file that ends in its header', () => vmdkFile().subarray(0, 511), 'the size of the file is 511'],
    ['createType monolithicFlat', () => described({ type: 'createType="monolithicFlat"' }), 'createType is "monolithicFlat"'],
    [
      'createType twoGbMaxExtentSparse',
      () => described({ type: 'createType="twoGbMaxExtentSparse"' }),
      'createType is "twoGbMaxExtentSparse"',
    ],
    ['no createType', () => described({ type: '' }), 'createType is ""'],
    ['a parent', () => described({ parent: 'parentCID=12345678' }), 'parentCID is "12345678"', 'never followed'],
    [
      'the name of a parent',
      () => described({ database: 'parentFileNameHint="/etc/passwd"' }),
      'parentFileNameHint is "/etc/passwd"',
    ],
    [
      'an extent that is a path',
      () => described({ extent: 'RW 8192 SPARSE "/etc/passwd"' }),
      'name of the extent is "/etc/passwd"',
    ],
    ['an extent that is a path of Windows', () => described({ extent: 'RW 8192 SPARSE "C:\\x.vmdk"' }), 'name of the extent'],
    ['an extent that is a URL', () => described({ extent: 'RW 8192 SPARSE "nbd:host"' }), 'name of the extent'],
    ['a flat extent', () => described({ extent: 'RW 8192 FLAT "x-flat.vmdk" 0' }), 'type of the extent is "FLAT"'],
    ['an extent of zeros', () => described({ extent: 'RW 8192 ZERO' }), 'type of the extent is "ZERO"'],
    ['an extent with an offset', () => described({ extent: 'RW 8192 SPARSE "x.vmdk" 128' }), 'without an offset'],
    ['an extent without access', () => described({ extent: 'NOACCESS 8192 SPARSE "x.vmdk"' }), 'access of the extent'],
    ['two extents', () => described({ database: 'RW 8192 SPARSE "b.vmdk"' }), 'number of extents is 2'],
    ['no extent', () => described({ extent: '' }), 'number of extents is 0'],
    ['a line that means nothing', () => described({ database: 'json:{"driver": "file"}' }), 'a line of the descriptor'],
    ['a descriptor that is none', () => described({ head: 'QFI' }), 'first line of the descriptor'],
    ['a descriptor of another size', () => described({}, 8192 - 128), 'agree with the header', 'is 8064'],
    ['a descriptor of a larger size', () => described({}, 8193), 'agree with the header'],
    ['a grain past the end', () => tabled((table) => table.writeUInt32LE(0xffff_fff0, 8)), 'grain 2', 'cut short'],
    ['a grain in the descriptor', () => tabled((table) => table.writeUInt32LE(2, 8)), 'must not lie inside the descriptor'],
    ['a grain that is another marker', () => tabled((table, file) => table.writeUInt32LE(file.length / 512 - 1, 8)), 'corrupt'],
    ['a table past the end', () => directed((directory) => directory.writeUInt32LE(0xffff_ffff, 0)), 'grain directory entry 0'],
    ['a table in the header', () => directed((directory) => directory.writeUInt32LE(1, 0)), 'must not lie inside'],
  ];
  function directed(change: (directory: Buffer) => void): Buffer {
    const bytes = vmdkFile({ grains, zeroGrains: true });
    change(bytes.subarray(Number(bytes.readBigUInt64LE(bytes.length - 1024 + 56)) * 512));
    return bytes;
  }
  for (const [name, file, ...said] of wrong) {
    it(`is refused with ${name}`, async () => {
      const message = await refusalOf(guestOf(file()));
      for (const part of said) expect(message).to.include(part);
    });
  }

  it('takes an entry of 1 for zeros where the flag says so, and for an error elsewhere', async () => {
    const bytes = vmdkFile({ grains: new Map([[3, 'zero']]), zeroGrains: true });
    expect((await guestOf(bytes)).every((byte) => byte === 0)).to.equal(true);
    expect(await refusalOf(guestOf(vmdkFile({ grains: new Map([[3, 'zero']]) })))).to.include(
      'must not lie inside the descriptor',
    );
  });

  it('is refused when it names one grain again and again', async () => {
    const descriptor = vmdkDescriptor(8192, { type: 'createType="monolithicSparse"' });
    const bytes = vmdkFile({ grains: new Map([[0, text(0)]]), compressed: false, descriptor });
    const directoryAt = Number(bytes.readBigUInt64LE(bytes.length - 1024 + 56)) * 512;
    const tableAt = bytes.readUInt32LE(directoryAt) * 512;
    for (let index = 1; index < 64; index += 1) bytes.writeUInt32LE(bytes.readUInt32LE(tableAt), tableAt + index * 4);
    expect(await refusalOf(guestOf(bytes))).to.include('name the same bytes more than once');
  });

  it('is refused when its directory needs more memory than there is', async () => {
    const bytes = vmdkFile({ sizeBytes: 2 ** 40, grainSectors: 8 });
    expect(await refusalOf(openDiskImage(memorySource(bytes), limits)))
      .to.include('the grain directory is 524288')
      .and.include('at most 21845');
  });

  it('is accepted with Windows line ends, comments and settings in any case', async () => {
    const descriptor = vmdkDescriptor(8192, {
      type: 'CREATETYPE = "StreamOptimized"',
      database: '\n# a comment\nencoding="UTF-8"',
    }).replaceAll('\n', '\r\n');
    expect(await open(vmdkFile({ grains, zeroGrains: true, descriptor }))).to.include({ sizeBytes: 4 * 2 ** 20 });
  });
});
