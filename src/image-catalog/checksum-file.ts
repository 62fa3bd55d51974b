// The checksum file that a distribution publishes beside its images, read strictly: a file with a line that is not understood is refused
// as a whole, so that no login page, no half of a file and no other format passes for it. Pure: text in, digests out, in linear time.
//
//   sums     lines of `<hex>  <name>` or `<hex> *<name>`, as sha256sum and sha512sum write them (Ubuntu, Debian, AlmaLinux)
//   bsd      lines of `SHA256 (<name>) = <hex>` (Fedora, Rocky)
//   single   one digest, with or without the name behind it (Alpine)
//
// Empty lines and lines that begin with # are skipped. Text that is signed within the file (RFC 4880 section 7, Fedora) is taken out of its
// frame; the signature is not checked: what vouches for the file is the TLS connection that it came over.
import { failedPrecondition } from '../platform/errors.ts';
import type { DigestAlgorithm } from '../sources/source-uri.ts';

export const checksumFormats = ['sums', 'bsd', 'single'] as const;
export type ChecksumFormat = (typeof checksumFormats)[number];

export interface ChecksumKind {
  format: ChecksumFormat;
  algorithm: DigestAlgorithm;
}

/** Digests in lower case by file name; where `single` gives no name, by the empty one. */
export type Digests = ReadonlyMap<string, string>;

const hexDigits: Record<DigestAlgorithm, number> = { sha256: 64, sha512: 128 };
const maxLineLength = 4096;

/** @throws DomainError FAILED_PRECONDITION naming the line. */
export function parseChecksums(text: string, kind: ChecksumKind): Digests {
  // eslint-disable-next-line no-control-regex
  if (/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/.test(text)) throw refused('it holds control characters');
  const digests = new Map<string, string>();
  for (const { line, number } of withoutSignature(linesOf(text))) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const found = readers[kind.format](line, kind.algorithm);
    if (found === undefined) throw refused(`line ${number} is not of the form ${shapes[kind.format](kind.algorithm)}`);
    if (found === 'other') continue;
    const { name, hex } = found;
    if (kind.format === 'single' && digests.size > 0) throw refused(`line ${number} is one digest too many`);
    const before = digests.get(name);
    if (before !== undefined && before !== hex) throw refused(`line ${number} gives "${name}" a second digest`);
    digests.set(name, hex);
  }
  if (digests.size === 0) throw refused(`it holds no ${kind.algorithm} digest`);
  return digests;
}

interface Line {
  line: string;
  number: number;
}

function linesOf(text: string): Line[] {
  const lines = text.split('\n').map((raw, index) => ({ line: raw.endsWith('\r') ? raw.slice(0, -1) : raw, number: index + 1 }));
  const long = lines.find(({ line }) => line.length > maxLineLength);
  if (long !== undefined) throw refused(`line ${long.number} is longer than ${maxLineLength} characters`);
  return lines;
}

/** What is signed within the frame of a signature; everything where there is no frame. */
function withoutSignature(lines: Line[]): Line[] {
  const first = lines.findIndex(({ line }) => line.trim() !== '');
  if (lines[first]?.line.trimEnd() !== '-----BEGIN PGP SIGNED MESSAGE-----') return lines;
  const start = lines.findIndex(({ line }, index) => index > first && line.trim() === '');
  const end = lines.findIndex(({ line }) => line.trimEnd() === '-----BEGIN PGP SIGNATURE-----');
  const isWhole = lines.some(({ line }, index) => index > end && line.trimEnd() === '-----END PGP SIGNATURE-----');
  if (start === -1 || end < start || !isWhole) throw refused('it is signed, and breaks off before the end of the signature');
  return lines.slice(start + 1, end).map(({ line, number }) => ({ line: line.startsWith('- ') ? line.slice(2) : line, number }));
}

type Found = { name: string; hex: string } | 'other' | undefined;

const readers: Record<ChecksumFormat, (line: string, algorithm: DigestAlgorithm) => Found> = {
  sums(line, algorithm) {
    const parts = /^([0-9a-f]+) [ *](\S.*)$/i.exec(line);
    return parts === null ? undefined : entry(parts[2]!, parts[1]!, algorithm);
  },
  bsd(line, algorithm) {
    const parts = /^([A-Za-z0-9/-]{2,20}) \((\S.*)\) = ([0-9a-f]+)$/i.exec(line);
    if (parts === null) return undefined;
    // Such files may hold the size and digests of other kinds as well.
    return parts[1]!.toLowerCase() === algorithm ? entry(parts[2]!, parts[3]!, algorithm) : 'other';
  },
  single(line, algorithm) {
    const parts = /^([0-9a-f]+)(?: [ *](\S.*))?$/i.exec(line.trimEnd());
    return parts === null ? undefined : entry(parts[2] ?? '', parts[1]!, algorithm);
  },
};

const entry = (name: string, hex: string, algorithm: DigestAlgorithm): Found =>
  hex.length === hexDigits[algorithm] ? { name: name.replace(/^\.\//, ''), hex: hex.toLowerCase() } : undefined;

const shapes: Record<ChecksumFormat, (algorithm: DigestAlgorithm) => string> = {
  sums: (algorithm) => `<${hexDigits[algorithm]} hexadecimal digits>  <name>`,
  bsd: (algorithm) => `${algorithm.toUpperCase()} (<name>) = <${hexDigits[algorithm]} hexadecimal digits>`,
  single: (algorithm) => `<${hexDigits[algorithm]} hexadecimal digits>`,
};

const refused = (why: string): Error => failedPrecondition(`The checksum file cannot be used: ${why}`);

/** Names of files that need no escaping in a URL, and lead to no other folder. */
export const plainName = /^[-+~\w][-+.~\w]*$/;

const inOrderOfVersions = new Intl.Collator('en', { numeric: true });

/**
 * The line of an image. `wanted` is a file's name, or holds one `*`: then it is the newest of the names that match, numbers in them compared
 * as numbers. Where a digest stands alone in its file, it is that of `wanted`.
 * @throws DomainError FAILED_PRECONDITION when there is none.
 */
export function findDigest(digests: Digests, wanted: string): { name: string; hex: string } {
  const [start = '', end] = wanted.split('*');
  if (end === undefined) {
    const hex = digests.get(wanted) ?? (digests.size === 1 ? digests.get('') : undefined);
    if (hex === undefined) throw refused(`it does not name ${wanted}`);
    return { name: wanted, hex };
  }
  const name = [...digests.keys()]
    .filter((each) => each.length >= start.length + end.length && each.startsWith(start) && each.endsWith(end))
    .filter((each) => plainName.test(each))
    .sort(inOrderOfVersions.compare)
    .at(-1);
  if (name === undefined) throw refused(`it names nothing like ${wanted}`);
  return { name, hex: digests.get(name)! };
}
