import { expect } from 'chai';
import { openDiskImage } from '../../../../src/formats/open.ts';
import { parseQcow2Header } from '../../../../src/formats/qcow2/header.ts';
import { memorySource } from '../../../../src/platform/byte-source.ts';
import { Qcow2File, type Qcow2FileOptions } from '../../../support/qcow2-file.ts';
import { refusalOf } from '../../../support/refusals.ts';

const limits = { maxSizeBytes: 2 ** 42, maxTableBytes: 2 ** 20 };
const open = (bytes: Uint8Array, maxTableBytes = limits.maxTableBytes) =>
  openDiskImage(memorySource(bytes), { ...limits, maxTableBytes });

/** A valid file with some bytes of its header changed. */
function patched(patches: [at: number, bytes: number[] | bigint | number][], options: Qcow2FileOptions = {}): Buffer {
  const bytes = new Qcow2File(options).bytes();
  for (const [at, value] of patches) {
    if (typeof value === 'bigint') bytes.writeBigUInt64BE(value, at);
    else if (typeof value === 'number') bytes.writeUInt32BE(value, at);
    else Buffer.from(value).copy(bytes, at);
  }
  return bytes;
}

const version2: Qcow2FileOptions = { version: 2 };
const endOfFile = 4n * 65_536n;

/** What is wrong, the file, and what the message must hold: the field, its value, the bound. */
const wrong: [name: string, file: () => Buffer, ...said: (string | RegExp)[]][] = [
  ['version 4', () => patched([[4, 4]]), 'version is 4', 'must be 2 or 3'],
  [
    'a backing file',
    () =>
      patched([
        [8, 512n],
        [16, 11],
      ]),
    'backing_file_offset is 512',
    'backing file',
    'qemu-img convert -f qcow2',
  ],
  [
    'a backing file in version 2',
    () =>
      patched(
        [
          [8, 512n],
          [16, 11],
        ],
        version2,
      ),
    'backing_file_offset',
  ],
  ['a backing file offset without a length', () => patched([[8, 1n]]), 'backing_file_offset is 1'],
  ['cluster_bits 0', () => patched([[20, 0]]), 'cluster_bits is 0', 'from 9 to 21'],
  ['cluster_bits 8', () => patched([[20, 8]]), 'cluster_bits is 8'],
  ['cluster_bits 22', () => patched([[20, 22]]), 'cluster_bits is 22'],
  ['cluster_bits 31', () => patched([[20, 31]]), 'cluster_bits is 31'],
  ['cluster_bits 2^32 - 1', () => patched([[20, 0xffff_ffff]]), 'cluster_bits is 4294967295'],
  ['a virtual size of 0', () => patched([[24, 0n]]), 'size is 0', 'at least'],
  ['a virtual size of 2^62', () => patched([[24, 2n ** 62n]]), `size is ${2n ** 62n}`, `at most ${2 ** 42}`],
  ['a virtual size of 2^64 - 1', () => patched([[24, 2n ** 64n - 1n]]), `size is ${2n ** 64n - 1n}`],
  ['a virtual size above the limit by one sector', () => patched([[24, 2n ** 42n + 512n]]), 'size is 4398046511616'],
  ['a virtual size that is no multiple of 512', () => patched([[24, 1000n]]), 'size is 1000', 'multiple of 512'],
  ['AES encryption', () => patched([[32, 1]]), 'crypt_method is 1', 'encrypted', 'Decrypt'],
  ['LUKS encryption', () => patched([[32, 2]]), 'crypt_method is 2'],
  ['unknown encryption', () => patched([[32, 77]]), 'crypt_method is 77'],
  ['an L1 table that is too small for the disk', () => patched([[36, 0]]), 'l1_size is 0', 'at least 1 '],
  ['an L1 table of 2^25 entries', () => patched([[36, 2 ** 25]]), 'l1_size is 33554432', 'at most 4194304'],
  ['an L1 table of 2^32 - 1 entries', () => patched([[36, 0xffff_ffff]]), 'l1_size is 4294967295'],
  [
    'an L1 table past the end of the file',
    () => patched([[40, endOfFile]]),
    'l1_table_offset is 262144',
    'end of the file at 262144',
  ],
  ['an L1 table at 2^63', () => patched([[40, 2n ** 63n]]), `l1_table_offset is ${2n ** 63n}`],
  [
    'an L1 table that is not aligned',
    () => patched([[40, 65_536n + 8n]]),
    'l1_table_offset is 65544',
    'multiple of the cluster size 65536',
  ],
  ['an L1 table in the header', () => patched([[40, 0n]]), 'l1_table_offset is 0'],
  ['an L1 table that reaches past the end', () => patched([[36, 8193]]), 'l1_table_offset', 'room for 65544 bytes'],
  ['an L1 table in the refcount table', () => patched([[40, 65_536n]]), 'refcount table', 'the L1 table', 'must not lie inside'],
  ['no refcount table', () => patched([[56, 0]]), 'refcount_table_clusters is 0'],
  ['a refcount table of 2^31 clusters', () => patched([[56, 2 ** 31]]), 'refcount_table_clusters is 2147483648', 'from 1 to 128'],
  ['a refcount table past the end', () => patched([[48, endOfFile]]), 'refcount_table_offset is 262144'],
  ['a refcount table that is not aligned', () => patched([[48, 65_537n]]), 'refcount_table_offset is 65537'],
  ['a refcount table in the header', () => patched([[48, 0n]]), 'refcount_table_offset is 0'],
  ['65,537 snapshots', () => patched([[60, 65_537]]), 'nb_snapshots is 65537', 'at most 65536'],
  [
    'a snapshot table past the end',
    () =>
      patched([
        [60, 1],
        [64, endOfFile],
      ]),
    'snapshots_offset is 262144',
  ],
  [
    'a snapshot table that is not aligned',
    () =>
      patched([
        [60, 1],
        [64, 100n],
      ]),
    'snapshots_offset is 100',
  ],
  ['the corrupt bit', () => patched([[72, 2n]]), 'incompatible_features is "0x2"', 'corrupt', 'qemu-img check -r'],
  ['an external data file', () => patched([[72, 4n]]), 'incompatible_features is "0x4"', 'external data file'],
  ['the compression bit without a type', () => patched([[72, 8n]]), 'compression_type is 0', 'bit 3'],
  ['a compression type without its bit', () => patched([[104, [1]]]), 'compression_type is 1', 'bit 3'],
  [
    'an unknown compression type',
    () =>
      patched([
        [72, 8n],
        [104, [2]],
      ]),
    'compression_type is 2',
    'must be 0 (zlib) or 1 (zstd)',
  ],
  ['extended L2 entries in small clusters', () => patched([[72, 16n]], { clusterBits: 13 }), 'cluster_bits is 13', 'at least 14'],
  ['an unknown incompatible bit', () => patched([[72, 32n]]), 'incompatible_features is "0x20"', 'not known'],
  ['the last incompatible bit', () => patched([[72, 2n ** 63n]]), 'incompatible_features is "0x8000000000000000"'],
  ['refcount_order 7', () => patched([[96, 7]]), 'refcount_order is 7', 'at most 6'],
  ['header_length 96', () => patched([[100, 96]]), 'header_length is 96', 'from 104'],
  ['header_length 105', () => patched([[100, 105]]), 'header_length is 105', 'multiple of 8'],
  ['header_length beyond the cluster', () => patched([[100, 65_544]]), 'header_length is 65544'],
  [
    'the name of an external data file',
    () => new Qcow2File({ extensions: [{ type: 0x44415441, data: Buffer.from('/etc/passwd') }] }).bytes(),
    'external data file name',
    'never followed',
  ],
  [
    'a header extension that is longer than the cluster',
    () => patched([[112, [0x12, 0x34, 0x56, 0x78, 0xff, 0xff, 0xff, 0xff]]]),
    'header extension 0x12345678 is 4294967295',
  ],
  ['a file that ends in its header', () => patched([]).subarray(0, 71), 'the size of the file is 71', 'at least 72'],
  ['a version 3 file that ends in its header', () => patched([]).subarray(0, 103), 'the size of the file is 103', 'at least 104'],
  ['a file of its header alone', () => patched([]).subarray(0, 512), 'l1_table_offset'],
];

describe('the header of a Qcow2 image', () => {
  for (const [name, file, ...said] of wrong) {
    it(`is refused with ${name}`, async () => {
      const message = await refusalOf(open(file()));
      expect(message).to.include('Qcow2');
      for (const part of said)
        expect(message).to.match(part instanceof RegExp ? part : new RegExp(part.replaceAll(/[$()*+.?[\\\]^{|}]/g, '\\$&')));
    });
  }

  const fine: [name: string, file: () => Buffer][] = [
    ['the dirty bit', () => patched([[72, 1n]])],
    ['lazy refcounts and unknown compatible bits', () => patched([[80, 2n ** 63n + 1n]])],
    ['unknown autoclear bits', () => patched([[88, 2n ** 63n + 3n]])],
    ['every refcount width', () => patched([[96, 6]])],
    ['a header of 104 bytes', () => patched([[100, 104]])],
    ['a longer header of later versions', () => patched([[100, 256]])],
    ['a garbage backing file length and no backing file', () => patched([[16, 0xffff_ffff]])],
    ['more L1 entries than the disk needs', () => patched([[36, 100]])],
    [
      'snapshots',
      () =>
        patched([
          [60, 2],
          [64, 131_072n],
        ]),
    ],
    [
      'unknown header extensions',
      () =>
        new Qcow2File({
          extensions: [
            { type: 0xe279_2aca, data: Buffer.from('raw') },
            { type: 0x7777_7777, data: Buffer.alloc(500) },
          ],
        }).bytes(),
    ],
    ['version 2 and what version 3 would call features after the header', () => patched([[100, 112]], version2)],
  ];
  for (const [name, file] of fine) {
    it(`is accepted with ${name}`, async () => {
      expect(await open(file())).to.include({ format: 'qcow2', sizeBytes: 2 ** 20 });
    });
  }

  it('is not asked for the L1 table before its size is bounded by the limit', async () => {
    // 128 GiB in clusters of 512 bytes have 4 Mi entries.
    const bytes = patched(
      [
        [24, 2n ** 37n],
        [36, 2 ** 22],
      ],
      { clusterBits: 9 },
    );
    const source = { ...memorySource(bytes), sizeBytes: 2 ** 36 };
    expect(
      await refusalOf(
        openDiskImage(
          {
            ...source,
            read: (target, offset) =>
              memorySource(bytes).read(target.subarray(0, Math.max(0, bytes.length - offset)), Math.min(offset, bytes.length)),
          },
          limits,
        ),
      ),
    )
      .to.include('the L1 table is 33554432')
      .and.include('at most 262144');
  });

  it('says the same for every length of input: too short, or a header', () => {
    const bytes = patched([]);
    for (let length = 0; length <= 112; length += 1) {
      const parse = () => parseQcow2Header(bytes.subarray(0, length), { fileBytes: bytes.length, maxSizeBytes: 2 ** 42 });
      if (length < 104) expect(parse, `${length} bytes`).to.throw('the size of the file');
      else expect(parse()).to.include({ version: 3, clusterBytes: 65_536, sizeBytes: 2 ** 20 });
    }
  });
});
