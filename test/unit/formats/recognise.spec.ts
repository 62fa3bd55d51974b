import { expect } from 'chai';
import { deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { headBytes, tailBytes } from '../../../src/formats/file-edges.ts';
import { recogniseFormat } from '../../../src/formats/recognise.ts';
import { Qcow2File } from '../../support/qcow2-file.ts';
import { refusalOf } from '../../support/refusals.ts';

const recognise = (file: Uint8Array, sizeBytes = file.length): string =>
  recogniseFormat(file.subarray(0, headBytes), file.subarray(Math.max(0, file.length - tailBytes)), sizeBytes);

/** A disk of 1 MiB with the given marks. */
function disk(...marks: [at: number, mark: string | number[]][]): Buffer {
  const bytes = Buffer.alloc(1024 * 1024);
  for (const [at, mark] of marks) Buffer.from(mark as string, 'latin1').copy(bytes, at < 0 ? bytes.length + at : at);
  return bytes;
}

const bootSector: [number, number[]] = [510, [0x55, 0xaa]];
const partition: [number, number[]] = [446, [0x80, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]];
const iso: [number, string] = [32_768, '\x01CD001\x01'];

/** A tar header with a right checksum and no magic, as tar wrote before POSIX. */
function oldTar(): Buffer {
  const header = Buffer.alloc(10_240);
  header.write('disk.raw\0');
  header.write('0000644\0', 100);
  header.fill(' ', 148, 156);
  const sum = header.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}

describe('recogniseFormat', () => {
  it('tells what it reads by content', () => {
    expect(recognise(new Qcow2File().bytes())).to.equal('qcow2');
    expect(recognise(new Qcow2File({ version: 2 }).bytes())).to.equal('qcow2');
    expect(recognise(disk([0, 'KDMV']))).to.equal('vmdk');
    expect(recognise(disk([0, 'conectix'], [-512, 'conectix']))).to.equal('vhd');
    expect(recognise(disk([-512, 'conectix']))).to.equal('vhd');
    expect(recognise(disk())).to.equal('raw');
  });

  it('takes for RAW what no format claims: partition tables, bare file systems, short and odd files', () => {
    expect(recognise(disk(bootSector, partition))).to.equal('raw');
    expect(recognise(disk(bootSector, partition, [512, 'EFI PART']))).to.equal('raw');
    expect(recognise(disk([1080, [0x53, 0xef]]))).to.equal('raw');
    expect(recognise(disk([0, 'hsqs']))).to.equal('raw');
    expect(recognise(disk([3, 'NTFS    '], bootSector))).to.equal('raw');
    expect(recognise(Buffer.from([0xeb, 0x3c, 0x90]))).to.equal('raw');
    expect(recognise(Buffer.alloc(511, 0xaa))).to.equal('raw');
    // Two bytes of a magic, or a magic at another place, are chance.
    expect(recognise(disk([0, [0x1f, 0x8b]]))).to.equal('raw');
    expect(recognise(disk([0, 'BZh9 and so on']))).to.equal('raw');
    expect(recognise(disk([4096, 'QFI\xfb\0\0\0\x03']))).to.equal('raw');
    expect(recognise(disk([0, 'CD001']))).to.equal('raw');
  });

  it('takes a partition table before the footer of a fixed VHD for what it is', () => {
    expect(recognise(disk(bootSector, partition, [-512, 'conectix']))).to.equal('vhd');
  });

  const foreign: [name: string, file: Buffer, remedy: RegExp][] = [
    ['VHDX', disk([0, 'vhdxfile']), /-f vhdx/],
    ['VDI', disk([0, '<<< Oracle VM VirtualBox Disk Image >>>\n\0'], [0x40, [0x7f, 0x10, 0xda, 0xbe]]), /-f vdi/],
    ['QED', disk([0, 'QED\0']), /-f qed/],
    ['Qcow image of version 1', disk([0, 'QFI\xfb\0\0\0\x01']), /-f qcow /],
    ['Parallels', disk([0, 'WithoutFreeSpace']), /-f parallels/],
    ['Parallels', disk([0, 'WithouFreSpacExt']), /-f parallels/],
    ['Bochs', disk([0, 'Bochs Virtual HD Image\0']), /-f bochs/],
    ['cloop', disk([0, '#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0']), /-f cloop/],
    ['DMG', disk([-512, 'koly\0\0\0\x04']), /-f dmg/],
    ['COWD', disk([0, 'COWD']), /-f vmdk/],
    ['seSparse', disk([0, [0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0]]), /-f vmdk/],
    ['descriptor of a VMDK', Buffer.from('# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\n'), /-f vmdk/],
    ['Android sparse', disk([0, [0x3a, 0xff, 0x26, 0xed]]), /simg2img/],
    ['LUKS', disk([0, 'LUKS\xba\xbe\0\x01'], [8, 'aes\0'], [40, 'xts-plain64\0'], [72, 'sha256\0']), /driver=luks/],
    ['gzip', gzipSync(disk()), /gunzip/],
    ['xz', disk([0, [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]]), /unxz/],
    ['bzip2', disk([0, [0x42, 0x5a, 0x68, 0x39, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59]]), /bunzip2/],
    ['zstd', zstdCompressSync(disk()), /unzstd/],
    ['zstd or lz4', disk([0, [0x53, 0x2a, 0x4d, 0x18]]), /unzstd/],
    ['lz4', disk([0, [0x04, 0x22, 0x4d, 0x18]]), /unlz4/],
    ['zip', disk([0, 'PK\x03\x04']), /unzip/],
    ['7z', disk([0, [0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c]]), /7z x/],
    ['RAR', disk([0, 'Rar!\x1a\x07\x01\0']), /unrar/],
    ['tar archive', disk([0, 'box.ovf'], [257, 'ustar\0']), /tar -xf/],
    ['tar archive', disk([0, 'box.ovf'], [257, 'ustar  \0']), /tar -xf/],
    ['tar archive', oldTar(), /tar -xf/],
    ['ISO 9660', disk(iso), /install/],
    ['ISO 9660', disk(iso, bootSector, partition), /install/],
    ['UDF', disk([32_768, '\0BEA01\x01']), /install/],
    ['VHD from before 2004', disk([-511, 'conectix\0']), /Append/],
    ['HTML', Buffer.from('\n<!DOCTYPE html><html><body>Please log in</body></html>'), /open the URL/],
    ['HTML', Buffer.from('<!-- saved --> <html lang="en">\x01</html>'), /open the URL/],
    ['XML', Buffer.from('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'), /open the URL/],
    [
      'OVF descriptor',
      Buffer.from('<?xml version="1.0"?><Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1">'),
      /disk file/,
    ],
    ['JSON', Buffer.from('{"error": "token expired"}'), /open the URL/],
    ['JSON', Buffer.from(`\uFEFF[1, 2]`), /open the URL/],
    ['text file', Buffer.from('404 page not found\n'), /open the URL/],
  ];
  for (const [name, file, remedy] of foreign) {
    it(`refuses ${name} by name and says what to do`, async () => {
      const message = await refusalOf(() => recognise(file));
      expect(message).to.include(name).and.match(remedy);
      expect(message).to.include('cannot be imported');
    });
  }

  const twice: [string, Buffer][] = [
    ['an ISO 9660 image with a Qcow2 header in its system area', disk([0, 'QFI\xfb\0\0\0\x03'], iso)],
    ['a Qcow2 image with a VHD footer', disk([0, 'QFI\xfb\0\0\0\x03'], [-512, 'conectix'])],
    ['a VMDK with a DMG trailer', disk([0, 'KDMV'], [-512, 'koly\0\0\0\x04'])],
    ['a Qcow2 header over a partition table', disk([0, 'QFI\xfb\0\0\0\x03'], bootSector, partition)],
    ['a VMDK header before a GPT of 4096-byte sectors', disk([0, 'KDMV'], [4096, 'EFI PART'])],
    ['gzip with a VHD footer', disk([0, [0x1f, 0x8b, 8]], [-512, 'conectix'])],
  ];
  for (const [name, file] of twice) {
    it(`refuses ${name}, naming both`, async () => {
      expect(await refusalOf(() => recognise(file))).to.match(/the file is .+ and .+ at once/);
    });
  }

  it('refuses an empty file', async () => {
    expect(await refusalOf(() => recognise(Buffer.alloc(0)))).to.include('empty');
  });

  it('takes long text without a mark for data, and a compressed stream without a container too', () => {
    const text = Buffer.alloc(headBytes + 512, 'some log line\n');
    expect(recognise(text)).to.equal('raw');
    expect(recognise(deflateRawSync(Buffer.alloc(4096, 'abc')))).to.equal('raw');
  });
});
