// Escapes in filter strings, as in C: \n, \", \101 (octal), \x41 and, by code point, \u0041 and \U00000041. Octal and \x give bytes; what
// they make together must be UTF-8.
import { invalidArgument } from '../../platform/errors.ts';

const simple: Record<string, number> = {
  a: 7,
  b: 8,
  f: 12,
  n: 10,
  r: 13,
  t: 9,
  v: 11,
  '"': 34,
  "'": 39,
  '?': 63,
  '\\': 92,
};

const escapePattern = /\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([^]))/gu;

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * The text that a string's inside stands for; `position` is that of its first character, for messages.
 * @throws DomainError INVALID_ARGUMENT on `filter` for an unknown escape, invalid UTF-8 and the character NUL, which no value holds.
 */
export function unescapeString(inside: string, position: number): string {
  const text = inside.includes('\\') ? unescapeBytes(inside, position) : inside;
  if (text.includes('\0')) throw invalidArgument('filter', `the string holds the character NUL (character ${position})`);
  return text;
}

function unescapeBytes(inside: string, position: number): string {
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const match of inside.matchAll(escapePattern)) {
    parts.push(Buffer.from(inside.slice(at, match.index)), bytesOf(match, position + match.index));
    at = match.index + match[0].length;
  }
  parts.push(Buffer.from(inside.slice(at)));
  try {
    return utf8.decode(Buffer.concat(parts));
  } catch {
    throw invalidArgument('filter', `the escapes of the string do not make UTF-8 (character ${position})`);
  }
}

function bytesOf([whole, octal, hex, short, long, single]: RegExpExecArray, position: number): Uint8Array {
  const byte = octal !== undefined ? parseInt(octal, 8) : hex !== undefined ? parseInt(hex, 16) : simple[single ?? ''];
  if (byte !== undefined && byte < 256) return Uint8Array.of(byte);
  const codePoint = parseInt(short ?? long ?? '', 16);
  const isScalar = codePoint < 0xd800 || (codePoint > 0xdfff && codePoint <= 0x10ffff);
  if (!isScalar) throw invalidArgument('filter', `unknown escape ${whole} (character ${position})`);
  return Buffer.from(String.fromCodePoint(codePoint));
}
