// How every decoder says no: which part of which format, its value, the bound, and what the user can do. A refusal is the caller's
// fault (INVALID_ARGUMENT on `uri`, the request field that named the file); it is final, no retry helps.
import { type DomainError, invalidArgument } from '../platform/errors.ts';

export interface Refusal {
  /** As people write it: `Qcow2`, `VMDK`. */
  format: string;
  /** The field of the format's specification, or the part of the file. */
  field: string;
  value: string | number | bigint;
  /** What it should have been, after "is <value>": `must be from 9 to 21`. */
  bound: string;
  /** A whole sentence. */
  remedy: string;
}

/** Values come from the file of a stranger: printable ASCII, bounded. */
function shown(value: string | number | bigint): string {
  if (typeof value !== 'string') return String(value);
  const clean = value.replaceAll(/[^\x20-\x7e]/g, '?');
  return clean.length > 80 ? `"${clean.slice(0, 80)}…"` : `"${clean}"`;
}

/** `Qcow2: cluster_bits is 31, must be from 9 to 21. Download or export the file again…` */
export const refuse = ({ format, field, value, bound, remedy }: Refusal): DomainError =>
  invalidArgument('uri', `${format}: ${field} is ${shown(value)}, ${bound}. ${remedy}`);

/** What is recognised and not read. `why` continues "this is a … file". */
export const refuseForeign = (name: string, remedy: string): DomainError =>
  invalidArgument('uri', `the file is ${name}, which cannot be imported. ${remedy}`);

export const damagedRemedy = 'The file is damaged or was cut short: download or export it again.';

/** The command that turns a file of qemu's driver `driver` into one that can be imported. */
export const convertRemedy = (driver: string): string =>
  `Convert it first: qemu-img convert -f ${driver} -O qcow2 <file> <file>.qcow2`;

export const smallerDiskRemedy = 'Import a smaller disk.';

/** The bound that every format shares. `sizeBytes` is the guest's disk size. */
export function assertGuestSize(format: string, field: string, sizeBytes: bigint, maxSizeBytes: number): number {
  if (sizeBytes === 0n)
    throw refuse({ format, field, value: 0, bound: 'must be at least one sector of 512 bytes', remedy: damagedRemedy });
  if (sizeBytes > BigInt(maxSizeBytes))
    throw refuse({
      format,
      field,
      value: sizeBytes,
      bound: `must be at most ${maxSizeBytes} bytes`,
      remedy: smallerDiskRemedy,
    });
  return Number(sizeBytes);
}
