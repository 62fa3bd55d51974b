// What a file is, by its content alone: names and declared types are never believed. Every detector runs; a file that two of them
// claim is refused, because the next program in line might believe the other one (import-hazards: format confusion).
import { invalidArgument } from '../platform/errors.ts';
import type { Format } from './disk-image.ts';
import { foreignFormats, holds } from './foreign-formats.ts';
import { refuseForeign } from './refusal.ts';

const names: Record<Format, string> = { raw: 'RAW', qcow2: 'Qcow2', vmdk: 'VMDK', vhd: 'VHD' };

const hasQcow2Header = (head: Uint8Array): boolean => holds(head, 0, 'QFI\xfb') && !holds(head, 4, [0, 0, 0, 1]);

const hasVmdkHeader = (head: Uint8Array): boolean => holds(head, 0, 'KDMV');

const hasVhdFooterAtStart = (head: Uint8Array): boolean => holds(head, 0, 'conectix');

/** Fixed disks have it here alone. */
const hasVhdFooterAtEnd = (tail: Uint8Array): boolean => holds(tail, -512, 'conectix');

/** A GPT's header in the second sector, for sectors of 512 and of 4096 bytes (UEFI 2.10 section 5.3.2). */
const hasGpt = (head: Uint8Array): boolean => holds(head, 512, 'EFI PART') || holds(head, 4096, 'EFI PART');

/** A partition table with at least one partition, every entry either bootable or not (UEFI 2.10 section 5.2.1). */
function hasMbr(head: Uint8Array): boolean {
  if (!holds(head, 510, [0x55, 0xaa])) return false;
  const entries = [446, 462, 478, 494];
  return entries.every((at) => (head[at]! & 0x7f) === 0) && entries.some((at) => head[at + 4] !== 0);
}

/**
 * The format of a file by its first bytes, its last bytes and its size (file-edges.ts says how many). RAW is what nothing claims.
 * @throws DomainError INVALID_ARGUMENT that names the container when it is not one that is read, or both when two claim the file.
 */
export function recogniseFormat(head: Uint8Array, tail: Uint8Array, sizeBytes: number): Format {
  if (sizeBytes === 0) throw invalidArgument('uri', 'the file is empty. Check the URL, then download or export the file again.');
  const found: Format[] = [];
  if (hasQcow2Header(head)) found.push('qcow2');
  if (hasVmdkHeader(head)) found.push('vmdk');
  if (hasVhdFooterAtStart(head) || hasVhdFooterAtEnd(tail)) found.push('vhd');
  const foreign = foreignFormats({ head, tail, sizeBytes });

  // A partition table is a claim of RAW. It contradicts a header in the same sector, not a footer: a fixed VHD is a raw disk and a footer.
  const startsWithHeader = hasQcow2Header(head) || hasVmdkHeader(head) || hasVhdFooterAtStart(head);
  const claims = [
    ...found.map((format) => `a ${names[format]} image`),
    ...foreign.map(({ name }) => name),
    ...(startsWithHeader && (hasGpt(head) || hasMbr(head)) ? ['a partitioned RAW disk'] : []),
  ];
  if (claims.length > 1)
    throw invalidArgument(
      'uri',
      `the file is ${claims.join(' and ')} at once, which no honest tool makes. Write the disk anew with qemu-img convert, naming the right source format with -f.`,
    );
  if (foreign[0] !== undefined) throw refuseForeign(foreign[0].name, foreign[0].remedy);
  return found[0] ?? 'raw';
}
