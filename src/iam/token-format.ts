// A token as text: `t1.<claims>.<signature>`. Claims are JSON in base64url; the signature is Ed25519 over the text before it, 64 bytes
// in base64url (86 characters). Fits the public pattern t1\.[A-Z0-9a-z_-]+[=]{0,2}\.[A-Z0-9a-z_-]{86}[=]{0,2}. There is one algorithm
// and one way to write a token: padding, other alphabets and altered spare bits are refused, so a token has no second spelling.
import { type KeyObject, sign, verify } from 'node:crypto';
import type { Subject } from './call.ts';

export interface TokenClaims {
  /** The token's own id: what a revocation names. */
  id: string;
  /** Which of the service's keys signed it. */
  keyId: string;
  subject: Subject;
  /** Seconds since 1970. */
  issuedAt: number;
  /** Seconds since 1970; the token is good before it. */
  expiresAt: number;
}

export const maxTokenLength = 1024;

const tokenPattern = /^(t1\.([A-Za-z0-9_-]+))\.([A-Za-z0-9_-]{86})$/;

/** The claims as they are written: short names, since they travel with every call. */
interface WrittenClaims {
  jti: string;
  kid: string;
  sub: string;
  typ: string;
  iat: number;
  exp: number;
}

export function writeToken(claims: TokenClaims, privateKey: KeyObject): string {
  const { id: jti, keyId: kid, subject, issuedAt: iat, expiresAt: exp } = claims;
  const written: WrittenClaims = { jti, kid, sub: subject.id, typ: subject.type, iat, exp };
  const signed = `t1.${Buffer.from(JSON.stringify(written)).toString('base64url')}`;
  const token = `${signed}.${sign(null, Buffer.from(signed), privateKey).toString('base64url')}`;
  if (token.length > maxTokenLength) throw new Error(`the token would be ${token.length} characters long`);
  return token;
}

/**
 * The claims of a token that one of our keys signed; `undefined` for every other text. Times are the caller's to check.
 * `findKey` answers the public key of a key id. `anyKey` is checked against when there is no such key, so that the time which an
 * answer takes does not tell a foreign key from a wrong signature.
 */
export function readToken(
  token: string,
  findKey: (keyId: string) => KeyObject | undefined,
  anyKey: KeyObject,
): TokenClaims | undefined {
  if (token.length > maxTokenLength) return undefined;
  const match = tokenPattern.exec(token);
  if (match === null) return undefined;
  const [, signed, claimsText, signatureText] = match as unknown as [string, string, string, string];
  const claimsBytes = canonicalBytes(claimsText);
  const signature = canonicalBytes(signatureText);
  if (claimsBytes === undefined || signature === undefined) return undefined;
  const claims = parseClaims(claimsBytes);
  if (claims === undefined) return undefined;
  const key = findKey(claims.keyId);
  const isSigned = verify(null, Buffer.from(signed), key ?? anyKey, signature);
  return isSigned && key !== undefined ? claims : undefined;
}

/** Node's decoder is lenient; only what encodes to the same text again is taken. */
function canonicalBytes(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64url');
  return bytes.toString('base64url') === text ? bytes : undefined;
}

function parseClaims(bytes: Buffer): TokenClaims | undefined {
  let written: Partial<Record<keyof WrittenClaims, unknown>> | null;
  try {
    written = JSON.parse(bytes.toString()) as typeof written;
  } catch {
    return undefined;
  }
  if (typeof written !== 'object' || written === null) return undefined;
  const { jti, kid, sub, typ, iat, exp } = written;
  const isWhole = [jti, kid, sub, typ].every((text) => typeof text === 'string') && [iat, exp].every(Number.isSafeInteger);
  if (!isWhole) return undefined;
  const claims = written as WrittenClaims;
  return {
    id: claims.jti,
    keyId: claims.kid,
    subject: { id: claims.sub, type: claims.typ },
    issuedAt: claims.iat,
    expiresAt: claims.exp,
  };
}
