import { expect } from 'chai';
import { diskImageReader } from '../../../src/formats/disk-image-reader.ts';
import { openDiskImage } from '../../../src/formats/open.ts';
import { type ByteSource, memorySource, readBytes } from '../../../src/platform/byte-source.ts';
import { extentsOf } from '../../support/extents.ts';
import { Qcow2File } from '../../support/qcow2-file.ts';
import { refusalOf } from '../../support/refusals.ts';

const limits = { maxSizeBytes: 2 ** 42, maxTableBytes: 2 ** 20 };

/** A source that counts what is asked of it. */
function counted(bytes: Uint8Array): ByteSource & { reads: [offset: number, length: number][] } {
  const source = memorySource(bytes);
  const reads: [number, number][] = [];
  return {
    ...source,
    reads,
    async read(target, offset, signal) {
      reads.push([offset, target.length]);
      await source.read(target, offset, signal);
    },
  };
}

describe('openDiskImage', () => {
  it('reads a RAW image as it is, without reading its data', async () => {
    const bytes = Buffer.alloc(300 * 1024, 0xab);
    const source = counted(bytes);
    const image = await openDiskImage(source, limits);
    expect(image).to.include({ format: 'raw', sizeBytes: bytes.length });
    expect(await extentsOf(image, bytes.length)).to.deep.equal([{ kind: 'raw', offset: 0, length: bytes.length, at: 0 }]);
    expect(await extentsOf(image, bytes.length, 1000, 24)).to.deep.equal([{ kind: 'raw', offset: 1000, length: 24, at: 1000 }]);
    expect(source.reads.reduce((sum, [, length]) => sum + length, 0)).to.be.below(80 * 1024);
  });

  for (const sizeBytes of [1, 511, 513, 66 * 1024 + 1]) {
    it(`pads a RAW file of ${sizeBytes} bytes with zeros to whole sectors`, async () => {
      const bytes = Buffer.alloc(sizeBytes, 0xab);
      const source = memorySource(bytes);
      const image = await openDiskImage(source, limits);
      const padded = Math.ceil(sizeBytes / 512) * 512;
      expect(image.sizeBytes).to.equal(padded);
      await extentsOf(image, sizeBytes);
      const read = await readBytes(diskImageReader(image, source), 0, padded);
      expect(Buffer.from(read).equals(Buffer.concat([bytes, Buffer.alloc(padded - sizeBytes)]))).to.equal(true);
    });
  }

  it('refuses a disk above the limit, naming both sizes', async () => {
    const small = { ...limits, maxSizeBytes: 2 ** 20 };
    const raw = Buffer.alloc(2 ** 20 + 1, 0xab);
    expect(await refusalOf(openDiskImage(memorySource(raw), small)))
      .to.include(`${2 ** 20 + 512}`)
      .and.include(`${2 ** 20}`);
    const qcow2 = new Qcow2File({ sizeBytes: 2 ** 20 + 512 }).bytes();
    expect(await refusalOf(openDiskImage(memorySource(qcow2), small)))
      .to.include('size is 1049088')
      .and.include('at most 1048576');
    expect((await openDiskImage(memorySource(raw.subarray(0, 2 ** 20)), small)).sizeBytes).to.equal(2 ** 20);
  });

  it('refuses an empty file', async () => {
    expect(await refusalOf(openDiskImage(memorySource(Buffer.alloc(0)), limits))).to.include('empty');
  });

  it('opens a far Qcow2 image in two round trips: both edges at once, then the L1 table', async () => {
    const file = new Qcow2File({ sizeBytes: 2 ** 30 });
    file.appendData(1);
    const source = counted(file.bytes());
    await openDiskImage(source, limits);
    expect(source.reads).to.have.length(3);
  });

  it('passes on what the source throws, and stops when it is aborted', async () => {
    const failing: ByteSource = {
      ...memorySource(Buffer.alloc(0)),
      sizeBytes: 2 ** 20,
      read: () => Promise.reject(new Error('gone')),
    };
    await openDiskImage(failing, limits).then(
      () => expect.fail('opened'),
      (error: Error) => expect(error.message).to.equal('gone'),
    );
    const waiting: ByteSource = {
      ...failing,
      read: (_target, _offset, signal) =>
        new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error))),
    };
    const abort = new AbortController();
    const opening = openDiskImage(waiting, limits, abort.signal);
    abort.abort(new Error('enough'));
    await opening.then(
      () => expect.fail('opened'),
      (error: Error) => expect(error.message).to.equal('enough'),
    );
  });

  it('refuses ranges outside of the disk as our own mistake', async () => {
    const image = await openDiskImage(memorySource(Buffer.alloc(1024, 0xab)), limits);
    for (const [offset, length] of [
      [-1, 1],
      [0, 1025],
      [1024, 1],
    ] as const) {
      let error: unknown;
      try {
        for await (const _ of image.extents(offset, length)) expect.fail('an extent');
      } catch (caught) {
        error = caught;
      }
      expect(error).to.be.instanceOf(RangeError);
    }
  });
});
