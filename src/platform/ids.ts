// Ids of everything that the API names: 20 characters of [a-z0-9], a prefix that tells the kind, then 85 random bits, so that an id is
// never given out twice and cannot be guessed. (Prefixes as the public samples show them: facts, section 3.6.)
import { randomBytes } from 'node:crypto';

const prefixes = {
  organization: 'bpf',
  cloud: 'b1g',
  folder: 'b1g',
  serviceAccount: 'aje',
  key: 'aje',
  image: 'fd8',
  snapshot: 'fd8',
  snapshotSchedule: 'fd8',
  disk: 'epd',
  operation: 'fd8',
  auditEvent: 'ev0',
} as const;

export type IdKind = keyof typeof prefixes;

/** Disks carry the prefix of their zone; a zone that is not listed shares the general one. */
const zoneDiskPrefixes: Record<string, string> = {
  'ru-central1-a': 'fhm',
  'ru-central1-b': 'epd',
  'ru-central1-d': 'a7l',
};

const alphabet = '0123456789abcdefghijklmnopqrstuv';
const randomLength = 17;

/** `newId('image')` → `fd8` and 17 random characters. `zoneId` matters to disks alone. */
export function newId(kind: IdKind, zoneId?: string): string {
  const prefix = (kind === 'disk' && zoneId !== undefined ? zoneDiskPrefixes[zoneId] : undefined) ?? prefixes[kind];
  let id: string = prefix;
  // 32 divides 256: the low five bits of a random byte are uniform.
  for (const byte of randomBytes(randomLength)) id += alphabet[byte & 31];
  return id;
}
