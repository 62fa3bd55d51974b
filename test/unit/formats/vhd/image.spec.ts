import { expect } from 'chai';
import { diskImageReader } from '../../../../src/formats/disk-image-reader.ts';
import { openDiskImage } from '../../../../src/formats/open.ts';
import { memorySource, readBytes } from '../../../../src/platform/byte-source.ts';
import { extentsOf } from '../../../support/extents.ts';
import { refusalOf } from '../../../support/refusals.ts';
import { checksum, dynamicVhd, fixedVhd, vhdFooter, type VhdFileOptions } from '../../../support/vhd-file.ts';

const limits = { maxSizeBytes: 2 ** 42, maxTableBytes: 2 ** 20 };
const blockBytes = 2 ** 21;
const MiB = 2 ** 20;

const open = (bytes: Uint8Array) => openDiskImage(memorySource(bytes), limits);

async function guestOf(bytes: Uint8Array): Promise<Buffer> {
  const image = await open(bytes);
  await extentsOf(image, bytes.length);
  return Buffer.from(await readBytes(diskImageReader(image, memorySource(bytes)), 0, image.sizeBytes));
}

describe('a fixed VHD', () => {
  it('is its bytes without the footer', async () => {
    const data = Buffer.alloc(3 * MiB, 'data ');
    const bytes = fixedVhd(data);
    expect(await extentsOf(await open(bytes), bytes.length)).to.deep.equal([
      { kind: 'raw', offset: 0, length: data.length, at: 0 },
    ]);
    expect((await guestOf(bytes)).equals(data)).to.equal(true);
  });

  it('is decided by the footer at its end, whatever the guest wrote into its first sector', async () => {
    const data = Buffer.alloc(MiB);
    vhdFooter({ kind: 3 }).copy(data);
    expect((await guestOf(fixedVhd(data))).equals(data)).to.equal(true);
  });
});

describe('a dynamic VHD', () => {
  it('maps blocks that are there and holes', async () => {
    const second = Buffer.alloc(blockBytes, 2);
    const bytes = dynamicVhd({
      currentSize: BigInt(5 * blockBytes),
      blocks: new Map([
        [3, Buffer.alloc(blockBytes, 3)],
        [1, second],
      ]),
    });
    expect(await extentsOf(await open(bytes), bytes.length)).to.deep.equal([
      { kind: 'zero', offset: 0, length: blockBytes },
      { kind: 'raw', offset: blockBytes, length: blockBytes, at: 2048 + 2 * 512 + blockBytes },
      { kind: 'zero', offset: 2 * blockBytes, length: blockBytes },
      { kind: 'raw', offset: 3 * blockBytes, length: blockBytes, at: 2048 + 512 },
      { kind: 'zero', offset: 4 * blockBytes, length: blockBytes },
    ]);
    expect((await guestOf(bytes)).subarray(blockBytes, 2 * blockBytes).equals(second)).to.equal(true);
  });

  for (const size of [512, 4096, 512 * 1024, 2 ** 24]) {
    it(`has blocks of ${size} bytes`, async () => {
      const currentSize = BigInt(3 * size + 512);
      const data = Buffer.alloc(size, 7);
      const bytes = dynamicVhd({
        currentSize,
        blockBytes: size,
        blocks: new Map([
          [0, data],
          [3, data.subarray(0, 512)],
        ]),
      });
      const guest = await guestOf(bytes);
      expect(guest).to.have.length(Number(currentSize));
      expect(guest.subarray(0, size).equals(data) && guest.subarray(size, 3 * size).every((byte) => byte === 0)).to.equal(true);
      expect(guest.subarray(3 * size).equals(data.subarray(0, 512))).to.equal(true);
    });
  }

  it('needs no more of its last block than the disk has', async () => {
    const bytes = dynamicVhd({ currentSize: BigInt(blockBytes + 1024), blocks: new Map([[1, Buffer.alloc(1024, 5)]]) });
    const cut = Buffer.concat([bytes.subarray(0, 2048 + 512 + 1024), bytes.subarray(-512)]);
    expect((await guestOf(cut)).subarray(blockBytes).every((byte) => byte === 5)).to.equal(true);
    expect(await refusalOf(guestOf(Buffer.concat([bytes.subarray(0, 2048 + 512 + 511), Buffer.alloc(1)])))).to.include('block 1');
  });

  it('may lack the footer at its end, as long as all blocks are there', async () => {
    const bytes = dynamicVhd({ blocks: new Map([[0, Buffer.alloc(blockBytes, 1)]]) });
    expect((await guestOf(bytes.subarray(0, -512)))[0]).to.equal(1);
  });

  it('walks two terabytes of holes in pieces of its table', async () => {
    const currentSize = 2040n * 2n ** 30n;
    const bytes = dynamicVhd({ currentSize });
    expect(await extentsOf(await open(bytes), bytes.length)).to.deep.equal([
      { kind: 'zero', offset: 0, length: Number(currentSize) },
    ]);
  });
});

describe('the size of a VHD', () => {
  const geometry: [number, number, number] = [120, 4, 17];
  const byGeometry = 120 * 4 * 17 * 512;
  const sizes: [name: string, options: VhdFileOptions, sizeBytes: number][] = [
    ['by geometry for Virtual PC', { creator: 'vpc ', geometry }, byGeometry],
    ['by geometry for qemu-img without force_size', { creator: 'qemu', geometry }, byGeometry],
    ['the current size for Hyper-V', { creator: 'win ', geometry }, 2 ** 22],
    ['the current size for qemu-img with force_size', { creator: 'qem2', geometry }, 2 ** 22],
    ['the current size for Disk2vhd', { creator: 'd2v ', geometry }, 2 ** 22],
    ['the current size for XenServer', { creator: 'tap\0', geometry }, 2 ** 22],
    ['the current size for Azure', { creator: 'wa\0\0', geometry }, 2 ** 22],
    ['the current size for VirtualBox', { creator: 'vbox', geometry }, 2 ** 22],
    ['the current size where the geometry is at its maximum', { creator: 'vpc ', geometry: [65_535, 16, 255] }, 2 ** 22],
  ];
  for (const [name, options, sizeBytes] of sizes) {
    it(`is ${name}`, async () => {
      expect((await open(dynamicVhd(options))).sizeBytes).to.equal(sizeBytes);
      expect((await open(fixedVhd(Buffer.alloc(2 ** 22), options))).sizeBytes).to.equal(sizeBytes);
    });
  }
});

describe('a VHD', () => {
  const footer = (change: (footer: Buffer) => void) => () => dynamicVhd({ changeFooter: change });
  const header = (change: (header: Buffer) => void) => () => dynamicVhd({ changeHeader: change });
  const data = new Map([[0, Buffer.alloc(blockBytes, 1)]]);
  /** With the copy at the start changed, its checksum right. */
  const copy = (change: (copy: Buffer) => void) => () => {
    const bytes = dynamicVhd();
    change(bytes.subarray(0, 512));
    checksum(bytes.subarray(0, 512), 64);
    return bytes;
  };
  const damaged = (at: number) => () => {
    const bytes = dynamicVhd();
    bytes[at < 0 ? bytes.length + at : at]! ^= 1;
    return bytes;
  };

  const wrong: [name: string, file: () => Buffer, ...said: string[]][] = [
    ['a differencing disk', () => dynamicVhd({ kind: 4 }), 'Disk Type is 4', 'parent', 'Convert-VHD'],
    ['an unknown disk type', () => dynamicVhd({ kind: 5 }), 'Disk Type is 5'],
    ['a wrong checksum of the footer', damaged(-200), 'the checksum of the footer'],
    ['a wrong checksum of its copy', damaged(200), 'the checksum of the footer'],
    ['a wrong checksum of the header', damaged(512 + 900), 'the checksum of the dynamic disk header'],
    ['version 2', footer((bytes) => bytes.writeUInt32BE(0x2_0000, 12)), 'File Format Version is "0x20000"'],
    ['a size of 0', () => dynamicVhd({ currentSize: 0n }), 'Current Size is 0'],
    [
      'a size of 2^62',
      footer((bytes) => bytes.writeBigUInt64BE(2n ** 62n, 48)),
      `Current Size is ${2n ** 62n}`,
      `at most ${2 ** 42}`,
    ],
    [
      'a size that is no multiple of 512',
      footer((bytes) => bytes.writeBigUInt64BE(1000n, 48)),
      'Current Size is 1000',
      'multiple of 512',
    ],
    ['a header past the end', footer((bytes) => bytes.writeBigUInt64BE(2n ** 40n, 16)), 'Data Offset is 1099511627776'],
    ['a header in the footer', footer((bytes) => bytes.writeBigUInt64BE(0n, 16)), 'Data Offset is 0'],
    ['a header at an odd place', footer((bytes) => bytes.writeBigUInt64BE(513n, 16)), 'Data Offset is 513'],
    ['a header at 2^63', footer((bytes) => bytes.writeBigUInt64BE(2n ** 63n, 16)), `Data Offset is ${2n ** 63n}`],
    ['another copy of the footer', copy((bytes) => bytes.writeBigUInt64BE(2n ** 21n, 48)), "of the footer's copy is 2097152"],
    ['a copy that is a fixed disk', copy((bytes) => bytes.writeUInt32BE(2, 60)), "kind of the footer's copy"],
    ['no copy of the footer', () => Buffer.concat([Buffer.alloc(4096), dynamicVhd().subarray(-512)]), 'the start of the file'],
    ['another cookie', header((bytes) => bytes.write('cxsparsf')), 'cookie', 'cxsparsf'],
    ['version 2 of the header', header((bytes) => bytes.writeUInt32BE(0x2_0000, 24)), 'Header Version'],
    ['blocks of 0 bytes', header((bytes) => bytes.writeUInt32BE(0, 32)), 'Block Size is 0', 'power of two from 512'],
    ['blocks of 128 bytes', header((bytes) => bytes.writeUInt32BE(128, 32)), 'Block Size is 128'],
    ['blocks of an odd size', header((bytes) => bytes.writeUInt32BE(2 ** 21 + 512, 32)), 'Block Size is 2097664'],
    ['blocks of 2 GiB', header((bytes) => bytes.writeUInt32BE(2 ** 31, 32)), 'Block Size is 2147483648'],
    ['a table that is too small', header((bytes) => bytes.writeUInt32BE(1, 28)), 'Max Table Entries is 1', 'at least 2'],
    ['a table past the end', header((bytes) => bytes.writeBigUInt64BE(2n ** 40n, 16)), 'Table Offset is 1099511627776'],
    ['a table at 2^64 - 512', header((bytes) => bytes.writeBigUInt64BE(2n ** 64n - 512n, 16)), 'Table Offset is'],
    ['a table in the header', header((bytes) => bytes.writeBigUInt64BE(1024n, 16)), 'must not lie inside'],
    [
      'a block past the end',
      () => dynamicVhd({ blocks: data, changeTable: (table) => table.writeUInt32BE(0xffff_fffe, 4) }),
      'block 1',
      'cut short',
    ],
    [
      'a block in the header',
      () => dynamicVhd({ blocks: data, changeTable: (table) => table.writeUInt32BE(0, 0) }),
      'must not lie inside',
    ],
    [
      'blocks that are all the same',
      () =>
        dynamicVhd({ currentSize: 2n ** 30n, blocks: data, changeTable: (table) => table.fill(table.subarray(0, 4), 4, 512) }),
      'name the same bytes more than once',
    ],
    [
      'a fixed disk that is cut short',
      () => fixedVhd(Buffer.alloc(MiB), { currentSize: 2n ** 21n }),
      'Current Size is 2097152',
      'at most 1048576',
    ],
    [
      'a fixed disk by geometry that is cut short',
      () => fixedVhd(Buffer.alloc(MiB), { creator: 'vpc ' }),
      'Current Size is 4177920',
    ],
    ['a fixed disk without its footer at the end', () => Buffer.concat([vhdFooter(), Buffer.alloc(MiB)]), 'Current Size'],
  ];
  for (const [name, file, ...said] of wrong) {
    it(`is refused with ${name}`, async () => {
      const message = await refusalOf(guestOf(file()));
      expect(message).to.include('VHD');
      for (const part of said) expect(message).to.include(part);
    });
  }
});
