import { expect } from 'chai';
import { deflateRawSync } from 'node:zlib';
import { diskImageReader } from '../../../../src/formats/disk-image-reader.ts';
import type { DiskImage } from '../../../../src/formats/disk-image.ts';
import { openDiskImage } from '../../../../src/formats/open.ts';
import { type ByteSource, memorySource, readBytes } from '../../../../src/platform/byte-source.ts';
import { extentsOf } from '../../../support/extents.ts';
import { Qcow2File } from '../../../support/qcow2-file.ts';
import { refusalOf } from '../../../support/refusals.ts';

const limits = { maxSizeBytes: 2 ** 42, maxTableBytes: 64 * 2 ** 20 };
const cluster = 65_536;
const copied = 1n << 63n;

const open = (bytes: Uint8Array): Promise<DiskImage> => openDiskImage(memorySource(bytes), limits);

async function walk(bytes: Uint8Array) {
  return extentsOf(await open(bytes), bytes.length);
}

const refusal = (bytes: Uint8Array): Promise<string> => refusalOf(walk(bytes));

/** A file whose guest cluster 1 has the given L2 entry, and another cluster of data at its end. */
function withEntry(entry: (dataAt: number, file: Qcow2File) => bigint, bitmap = 0n, options = {}): Buffer {
  const file = new Qcow2File(options);
  file.setL2(0, 0n);
  const dataAt = file.appendData(0x5a);
  file.setL2(1, entry(dataAt, file), bitmap);
  return file.bytes();
}

describe('a Qcow2 image', () => {
  it('maps data, zero clusters, preallocated zeros and holes', async () => {
    const file = new Qcow2File();
    const [first, second, third] = [file.appendData(1), file.appendData(2), file.appendData(3)] as const;
    file.setL2(1, BigInt(first) | copied);
    file.setL2(2, BigInt(second));
    file.setL2(3, 1n);
    file.setL2(4, BigInt(third) | 1n | copied);
    file.setL2(6, BigInt(third) | copied);
    expect(await walk(file.bytes())).to.deep.equal([
      { kind: 'zero', offset: 0, length: cluster },
      { kind: 'raw', offset: cluster, length: 2 * cluster, at: first },
      { kind: 'zero', offset: 3 * cluster, length: 3 * cluster },
      { kind: 'raw', offset: 6 * cluster, length: cluster, at: third },
      { kind: 'zero', offset: 7 * cluster, length: 9 * cluster },
    ]);
  });

  it('maps subclusters', async () => {
    const file = new Qcow2File({ extendedL2: true });
    const at = file.appendData(1);
    // Subclusters 0 and 1 hold data, 2 is zero, 31 holds data.
    file.setL2(0, BigInt(at) | copied, (0x4n << 32n) | 0x8000_0003n);
    file.setL2(1, 0n, 0xffff_ffffn << 32n);
    const sub = cluster / 32;
    expect((await walk(file.bytes())).slice(0, 4)).to.deep.equal([
      { kind: 'raw', offset: 0, length: 2 * sub, at },
      { kind: 'zero', offset: 2 * sub, length: 29 * sub },
      { kind: 'raw', offset: 31 * sub, length: sub, at: at + 31 * sub },
      { kind: 'zero', offset: cluster, length: 15 * cluster },
    ]);
  });

  for (const clusterBits of [9, 12, 16, 21]) {
    it(`finds compressed clusters of ${2 ** clusterBits} bytes anywhere in a cluster, shared sectors and the end of the file included`, async () => {
      const file = new Qcow2File({ clusterBits });
      const guests = [0, 1, 2, 3].map((index) => Buffer.alloc(file.clusterBytes, `cluster ${index} `));
      file.setL2(0, 0n);
      const start = file.append(4);
      let at = start + 100;
      for (const [index, guest] of guests.entries()) {
        const stream = deflateRawSync(guest);
        file.setL2(index, file.compressedEntry(at, stream.length));
        file.write(at, stream);
        at += stream.length;
      }
      // Cut right after the last stream: its last sector is not whole.
      const bytes = file.bytes(at);
      const image = await open(bytes);
      const extents = await extentsOf(image, bytes.length);
      expect(extents.filter(({ kind }) => kind === 'packed')).to.have.length(4);
      expect(extents[3]).to.include({ kind: 'packed', codec: 'deflate-raw', skip: 0, unitLength: file.clusterBytes });
      const read = await readBytes(diskImageReader(image, memorySource(bytes)), 0, 4 * file.clusterBytes);
      expect(Buffer.from(read).equals(Buffer.concat(guests))).to.equal(true);
    });
  }

  it('reads zeros after the end of a file that ends inside its last cluster', async () => {
    const file = new Qcow2File();
    file.setL2(0, 0n);
    const at = file.appendData(7);
    file.setL2(0, BigInt(at));
    expect((await walk(file.bytes(at + 1000))).slice(0, 2)).to.deep.equal([
      { kind: 'raw', offset: 0, length: 1000, at },
      { kind: 'zero', offset: 1000, length: 16 * cluster - 1000 },
    ]);
  });

  const corrupt: [name: string, file: () => Buffer, ...said: string[]][] = [
    ['a cluster past the end of the file', () => withEntry((at) => BigInt(at + cluster)), 'guest cluster 1', 'cut short'],
    [
      'a compressed cluster past the end',
      () => withEntry((at, file) => file.compressedEntry(at + cluster, 100)),
      'guest cluster 1',
      'cut short',
    ],
    ['a cluster that is not aligned', () => withEntry((at) => BigInt(at + 512)), 'multiple of the cluster size'],
    ['reserved bits in an entry', () => withEntry((at) => BigInt(at) | (1n << 56n)), 'reserved bits'],
    ['reserved low bits in an entry', () => withEntry((at) => BigInt(at) | 2n), 'reserved bits'],
    ['a zero cluster in version 2', () => withEntry(() => 1n, 0n, { version: 2 }), 'version 2'],
    ['the zero flag with subclusters', () => withEntry(() => 1n, 0n, { extendedL2: true }), 'reserved bits'],
    [
      'a subcluster both allocated and zero',
      () => withEntry(BigInt, (1n << 32n) | 1n, { extendedL2: true }),
      'both allocated and zero',
    ],
    ['subclusters without an offset', () => withEntry(() => 0n, 1n, { extendedL2: true }), 'without an offset'],
    ['data in the header', () => withEntry((_at, file) => file.compressedEntry(512, 100)), 'must not lie inside the header'],
    ['data in the L1 table', () => withEntry((_at, file) => BigInt(file.l1At)), 'must not lie inside the L1 table'],
    ['data in the refcount table', () => withEntry(() => BigInt(cluster)), 'must not lie inside the refcount table'],
    ['data in an L2 table', () => withEntry((at) => BigInt(at - cluster)), 'must not lie inside an L2 table'],
    ['an L2 table past the end', () => withL1((at) => BigInt(at + cluster)), 'L1 entry 0', 'inside the file'],
    ['an L2 table that is not aligned', () => withL1((at) => BigInt(at + 512)), 'L1 entry 0', 'multiple of the cluster size'],
    ['reserved bits in the L1 table', () => withL1((at) => BigInt(at) | 1n), 'L1 entry 0', 'reserved bits'],
    ['an L2 table inside the header', () => withL1(() => 512n), 'L1 entry 0', 'multiple of the cluster size'],
    ['an L2 table in the L1 table', () => withL1((_at, file) => BigInt(file.l1At)), 'must not lie inside'],
  ];
  function withL1(entry: (at: number, file: Qcow2File) => bigint): Buffer {
    const file = new Qcow2File();
    const at = file.append();
    file.setL1(0, entry(at, file));
    return file.bytes();
  }
  for (const [name, file, ...said] of corrupt) {
    it(`is refused with ${name}`, async () => {
      const message = await refusal(file());
      for (const part of said) expect(message).to.include(part);
    });
  }

  it('is refused when two L1 entries share a table', async () => {
    const file = new Qcow2File({ sizeBytes: 2 ** 30 });
    const at = file.append();
    file.setL1(0, BigInt(at));
    file.setL1(1, BigInt(at));
    expect(await refusal(file.bytes()))
      .to.include('an L2 table')
      .and.include('must not lie inside an L2 table');
  });

  it('is refused when it names one cluster again and again, in a walk and in a random read alike, each time', async () => {
    const file = new Qcow2File({ sizeBytes: 2 ** 29 });
    file.setL2(0, 0n);
    const at = file.appendData(1);
    for (let index = 0; index < 100; index += 1) file.setL2(index, BigInt(at));
    const bytes = file.bytes();
    const image = await open(bytes);
    const said = /names|name the same bytes more than once/;
    for (let round = 0; round < 2; round += 1) {
      expect(await refusalOf(extentsOf(image, bytes.length))).to.match(said);
      expect(await refusalOf(extentsOf(image, bytes.length, 50 * cluster, 512))).to.match(said);
    }
  });

  it('ignores entries past the end of the disk', async () => {
    const file = new Qcow2File({ sizeBytes: cluster + 512 });
    file.setL2(1, 1n);
    file.setL2(2, BigInt(2 ** 40));
    expect(await walk(file.bytes())).to.deep.equal([{ kind: 'zero', offset: 0, length: cluster + 512 }]);
  });

  it('walks an empty terabyte of any cluster size without reading a table', async () => {
    for (const clusterBits of [14, 16, 21]) {
      const bytes = new Qcow2File({ clusterBits, sizeBytes: 2 ** 40 }).bytes();
      let isOpen = false;
      const source: ByteSource = {
        ...memorySource(bytes),
        read: (target, offset) => (isOpen ? Promise.reject(new Error('read')) : memorySource(bytes).read(target, offset)),
      };
      const image = await openDiskImage(source, limits);
      isOpen = true;
      expect(await extentsOf(image, bytes.length)).to.deep.equal([{ kind: 'zero', offset: 0, length: 2 ** 40 }]);
    }
  });

  it('reads L2 tables ahead, many at once, from a far source', async () => {
    const file = new Qcow2File({ sizeBytes: 32 * 2 ** 29 });
    for (let table = 0; table < 32; table += 1) file.setL2(table * 8192, 1n);
    const bytes = file.bytes();
    const near = memorySource(bytes);
    let underWay = 0;
    let most = 0;
    let reads = 0;
    const far: ByteSource = {
      ...near,
      async read(target, offset, signal) {
        reads += 1;
        underWay += 1;
        most = Math.max(most, underWay);
        await new Promise((resolve) => setTimeout(resolve, 5));
        await near.read(target, offset, signal);
        underWay -= 1;
      },
    };
    const image = await openDiskImage(far, limits);
    reads = 0;
    await extentsOf(image, bytes.length);
    // The tables are neighbours in this file, 2 MiB in all: reads of at most 1 MiB.
    expect(reads).to.be.within(2, 4);
    expect(most).to.be.above(1);
  });

  it('fetches a part of a large L2 table for a random read', async () => {
    const file = new Qcow2File({ clusterBits: 21, sizeBytes: 2 ** 40 });
    file.setL2(0, 1n);
    file.setL2(200_000, 1n);
    const bytes = file.bytes();
    const near = memorySource(bytes);
    let fetched = 0;
    const source: ByteSource = { ...near, read: (target, offset) => ((fetched += target.length), near.read(target, offset)) };
    const image = await openDiskImage(source, limits);
    fetched = 0;
    await extentsOf(image, bytes.length, 200_000 * 2 ** 21, 512);
    expect(fetched).to.equal(65_536);
  });

  describe('whose tables are slow to come', () => {
    const file = new Qcow2File({ sizeBytes: 200 * 2 ** 29 });
    for (let table = 0; table < 200; table += 1) file.setL2(table * 8192 + 1, 1n);
    const firstTable = new Qcow2File({ sizeBytes: 200 * 2 ** 29 }).bytes().length;
    file.setL2(0, BigInt(file.appendData(1)));
    const bytes = file.bytes();
    const near = memorySource(bytes);

    /** An image of which only the head and the L1 table come; every read of L2 tables waits until it is cancelled. */
    async function slowImage(): Promise<{ image: DiskImage; underWay: Set<number> }> {
      const underWay = new Set<number>();
      const image = await openDiskImage(
        {
          ...near,
          read(target, offset, signal) {
            if (offset < firstTable + 2 ** 20 || offset > bytes.length - 4096) return near.read(target, offset);
            underWay.add(offset);
            return new Promise((_resolve, reject) =>
              signal?.addEventListener('abort', () => {
                underWay.delete(offset);
                reject(signal.reason as Error);
              }),
            );
          },
        },
        limits,
      );
      return { image, underWay };
    }

    it('cancels what it reads ahead when the walk is left', async () => {
      const { image, underWay } = await slowImage();
      for await (const extent of image.extents(0, image.sizeBytes)) {
        expect(extent.kind).to.equal('raw');
        expect(underWay.size).to.be.above(1);
        break;
      }
      expect(underWay.size).to.equal(0);
    });

    it('stops with the reason when it is aborted', async () => {
      const { image, underWay } = await slowImage();
      const abort = new AbortController();
      const walking = (async () => {
        for await (const _ of image.extents(0, image.sizeBytes, abort.signal));
      })();
      setTimeout(() => abort.abort(new Error('enough')), 20);
      await walking.then(
        () => expect.fail('walked to the end'),
        (error: Error) => expect(error.message).to.equal('enough'),
      );
      expect(underWay.size).to.equal(0);
    });
  });
});
