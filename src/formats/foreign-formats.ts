// Containers that are known and not read: each with the mark that gives it away and what the user can do. Taking one of them for RAW
// would make a READY image of bytes that no guest can boot.
import type { FileEdges } from './file-edges.ts';
import { nameOfText } from './error-page.ts';
import { convertRemedy } from './refusal.ts';

export interface ForeignFormat {
  /** Continues "the file is …". */
  name: string;
  /** A whole sentence. */
  remedy: string;
}

/** Whether `bytes` hold `mark` at `at`; a string stands for its Latin-1 bytes. A negative `at` counts from the end. */
export function holds(bytes: Uint8Array, at: number, mark: string | readonly number[]): boolean {
  const start = at < 0 ? bytes.length + at : at;
  const expected = typeof mark === 'string' ? Buffer.from(mark, 'latin1') : mark;
  return start >= 0 && start + expected.length <= bytes.length && expected.every((byte, index) => bytes[start + index] === byte);
}

const decompress = (command: string): string =>
  `Unpack it first (${command}), then import the file inside; a compressed Qcow2 (qemu-img convert -c -O qcow2) is as small and needs no unpacking.`;

const archive = (command: string): string => `Unpack it first (${command}), then import the disk file inside.`;

/** Marks at fixed places of the head. One row per container; a container with two marks has two rows. */
const marks: readonly { at: number; mark: string | readonly number[]; name: string; remedy: string }[] = [
  // Disk images of other hypervisors (qemu/block/*.c; the vendors' specifications are named in docs/formats/README.md).
  { at: 0, mark: 'vhdxfile', name: 'a VHDX image', remedy: convertRemedy('vhdx') },
  { at: 0x40, mark: [0x7f, 0x10, 0xda, 0xbe], name: 'a VirtualBox VDI image', remedy: convertRemedy('vdi') },
  { at: 0, mark: 'QED\0', name: 'a QED image', remedy: convertRemedy('qed') },
  { at: 0, mark: [0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 1], name: 'a Qcow image of version 1', remedy: convertRemedy('qcow') },
  { at: 0, mark: 'WithoutFreeSpace', name: 'a Parallels image', remedy: convertRemedy('parallels') },
  { at: 0, mark: 'WithouFreSpacExt', name: 'a Parallels image', remedy: convertRemedy('parallels') },
  { at: 0, mark: 'Bochs Virtual HD Image', name: 'a Bochs image', remedy: convertRemedy('bochs') },
  { at: 0, mark: '#!/bin/sh\n#V2.0 Format\n', name: 'a cloop image', remedy: convertRemedy('cloop') },
  { at: 0, mark: 'COWD', name: 'a VMDK of an old ESX server (COWD)', remedy: convertRemedy('vmdk') },
  { at: 0, mark: [0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0], name: 'an extent of a seSparse VMDK', remedy: convertRemedy('vmdk') },
  {
    at: 0,
    mark: [0x3a, 0xff, 0x26, 0xed],
    name: 'an Android sparse image',
    remedy: 'Expand it first: simg2img <file> <file>.raw',
  },
  { at: 0, mark: 'VMA\0', name: 'a Proxmox backup (VMA)', remedy: archive('vma extract') },
  { at: 0, mark: 'rbd image v', name: 'an export of Ceph RBD', remedy: 'Export it as bytes: rbd export --export-format 1' },
  { at: 0, mark: 'rbd diff v', name: 'a difference of Ceph RBD', remedy: 'Export the whole image: rbd export' },
  { at: 0, mark: 'EVF\t\r\n\xff\0', name: 'an EnCase image (E01)', remedy: 'Convert it first: ewfexport -f raw' },
  {
    at: 0,
    mark: 'MSWIM\0\0\0',
    name: 'a Windows image archive (WIM)',
    remedy: 'Apply it to a disk first, then import that disk.',
  },
  // Encrypted: the guest's bytes cannot be read without a passphrase, which an import is never given.
  ...['LUKS\xba\xbe', 'SKUL\xba\xbe'].map((mark) => ({
    at: 0,
    mark,
    name: 'a LUKS container',
    remedy:
      'Decrypt it first: qemu-img convert --object secret,id=key,file=<passphrase> --image-opts driver=luks,key-secret=key,file.filename=<file> -O qcow2 <file>.qcow2',
  })),
  // Compressed files.
  { at: 0, mark: [0x1f, 0x8b, 0x08], name: 'compressed with gzip', remedy: decompress('gunzip') },
  { at: 0, mark: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], name: 'compressed with xz', remedy: decompress('unxz') },
  { at: 0, mark: [0x28, 0xb5, 0x2f, 0xfd], name: 'compressed with zstd', remedy: decompress('unzstd') },
  { at: 0, mark: [0x04, 0x22, 0x4d, 0x18], name: 'compressed with lz4', remedy: decompress('unlz4') },
  { at: 0, mark: 'LZIP\x01', name: 'compressed with lzip', remedy: decompress('lzip -d') },
  // Archives.
  { at: 0, mark: 'PK\x03\x04', name: 'a zip archive', remedy: archive('unzip') },
  { at: 0, mark: 'PK\x05\x06', name: 'a zip archive', remedy: archive('unzip') },
  { at: 0, mark: [0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c], name: 'a 7z archive', remedy: archive('7z x') },
  { at: 0, mark: 'Rar!\x1a\x07', name: 'a RAR archive', remedy: archive('unrar x') },
];

const opticalRemedy =
  'It is a medium to install from, with sectors of 2048 bytes: boot a virtual machine from it, install, and import the disk that results.';

/** The checksum of a tar header: the sum of its bytes, those of the checksum itself taken as spaces (POSIX.1-1988, ustar). */
function isTarHeader(head: Uint8Array): boolean {
  if (head.length < 512 || head[0] === 0) return false;
  const digits = /^\s*([0-7]{1,7})[\s\0]/.exec(Buffer.from(head.subarray(148, 156)).toString('latin1'))?.[1];
  if (digits === undefined) return false;
  let sum = 8 * 0x20;
  for (let at = 0; at < 512; at += 1) if (at < 148 || at >= 156) sum += head[at]!;
  return sum === Number.parseInt(digits, 8);
}

/** bzip2's own three bytes are too few: a block's or the end's magic follows the level. */
function isBzip2(head: Uint8Array): boolean {
  const level = head[3] ?? 0;
  const block = [0x31, 0x41, 0x59, 0x26, 0x53, 0x59];
  const end = [0x17, 0x72, 0x45, 0x38, 0x50, 0x90];
  return holds(head, 0, 'BZh') && level >= 0x31 && level <= 0x39 && (holds(head, 4, block) || holds(head, 4, end));
}

const volumeDescriptorAt = 32 * 1024;

/** ECMA-119 section 8.1: a volume descriptor has a known type, "CD001" and version 1. */
const isIso9660 = (head: Uint8Array): boolean =>
  holds(head, volumeDescriptorAt + 1, 'CD001\x01') && [0, 1, 2, 3, 255].includes(head[volumeDescriptorAt]!);

/** ECMA-167 part 2 section 9: the recognition sequence of UDF starts with this descriptor where there is no ISO 9660. */
const isUdf = (head: Uint8Array): boolean => holds(head, volumeDescriptorAt, '\0BEA01\x01');

/** The text file that goes with a flat or split VMDK; its first lines are comments (VMware's Virtual Disk Format 5.0, "The Descriptor File"). */
const isVmdkDescriptor = (head: Uint8Array): boolean =>
  /^\s*#\s*Disk DescriptorFile/i.test(Buffer.from(head.subarray(0, 512)).toString('latin1'));

const probes: readonly { test: (edges: FileEdges) => boolean; name: string; remedy: string }[] = [
  {
    test: ({ head }) => isVmdkDescriptor(head),
    name: 'the descriptor of a VMDK whose data is in other files',
    remedy: 'Join them into one file first: qemu-img convert -f vmdk -O qcow2 <descriptor> <file>.qcow2',
  },
  { test: ({ head }) => isBzip2(head), name: 'compressed with bzip2', remedy: decompress('bunzip2') },
  {
    test: ({ head }) => holds(head, 257, 'ustar') || isTarHeader(head),
    name: 'a tar archive (an OVA is one)',
    remedy: archive('tar -xf'),
  },
  { test: ({ head }) => isIso9660(head), name: 'an ISO 9660 image', remedy: opticalRemedy },
  { test: ({ head }) => isUdf(head), name: 'a UDF image', remedy: opticalRemedy },
  {
    test: ({ head, tail }) => holds(tail, -512, 'koly\0\0\0\x04') || holds(head, 0, 'koly\0\0\0\x04'),
    name: 'an Apple DMG image',
    remedy: convertRemedy('dmg'),
  },
  {
    test: ({ tail }) => holds(tail, -511, 'conectix\0'),
    name: 'a VHD from before 2004, with a footer of 511 bytes',
    remedy: 'Append one zero byte to it: printf "\\0" >> <file>',
  },
];

/** Every foreign container whose mark the file bears. */
export function foreignFormats(edges: FileEdges): ForeignFormat[] {
  const found = [
    ...marks.filter(({ at, mark }) => holds(edges.head, at, mark)),
    // Skippable frames may come first (RFC 8878 section 3.1.2); lz4 has the same ones.
    ...(edges.head.length >= 4 && (edges.head[0]! & 0xf0) === 0x50 && holds(edges.head, 1, [0x2a, 0x4d, 0x18])
      ? [{ name: 'compressed with zstd or lz4', remedy: decompress('unzstd or unlz4') }]
      : []),
    ...probes.filter(({ test }) => test(edges)),
  ].map(({ name, remedy }) => ({ name, remedy }));
  // Text is asked for last: a VMDK descriptor and a cloop image start as text as well.
  const text = found.length === 0 ? nameOfText(edges.head, edges.sizeBytes) : undefined;
  if (text !== undefined) found.push({ name: text, remedy: textRemedy(text) });
  return found;
}

const textRemedy = (name: string): string =>
  name === 'an OVF descriptor'
    ? 'Import the disk file that it names.'
    : 'The server answered with a page instead of a disk image: open the URL and see whether it has expired or asks for a login.';
