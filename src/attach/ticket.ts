// A ticket: the name of an NBD export, `nbd1.<claims>.<signature>`, that lets whoever has it open one resource in one mode, for the
// subject that asked for it, until it expires. Claims are JSON in base64url; the signature is Ed25519 by one of the keys that sign
// tokens, over the text before it, whose first letters tell it from a token. It has one spelling, like a token.
import type { Subject } from '../iam/call.ts';
import type { SessionMode } from './attach-session.entity.ts';

export interface TicketClaims {
  subject: Subject;
  /** The token that the ticket was asked for with: when that is revoked, so is the ticket. */
  tokenId: string | undefined;
  resourceId: string;
  mode: SessionMode;
  /** Seconds since 1970; the ticket is good before it. */
  expiresAt: number;
}

/** What signs and checks: TokenAuthority. */
export interface TicketKeys {
  signer(): { keyId: string; sign: (text: string) => Buffer };
  isSigned(keyId: string, text: string, signature: Uint8Array): boolean;
}

const maxTicketLength = 1024;
const pattern = /^(nbd1\.([A-Za-z0-9_-]+))\.([A-Za-z0-9_-]{86})$/;

/** Short names: some clients take no long ones. */
interface WrittenClaims {
  kid: string;
  sub: string;
  typ: string;
  /** The groups of a user. */
  grp?: string[];
  jti?: string;
  res: string;
  rw: boolean;
  exp: number;
}

export const isTicket = (name: string): boolean => name.startsWith('nbd1.');

export function writeTicket({ subject, tokenId, resourceId, mode, expiresAt }: TicketClaims, keys: TicketKeys): string {
  const { keyId, sign } = keys.signer();
  const written: WrittenClaims = {
    kid: keyId,
    sub: subject.id,
    typ: subject.type,
    ...(subject.groups === undefined ? {} : { grp: [...subject.groups] }),
    ...(tokenId === undefined ? {} : { jti: tokenId }),
    res: resourceId,
    rw: mode === 'READ_WRITE',
    exp: expiresAt,
  };
  const signed = `nbd1.${Buffer.from(JSON.stringify(written)).toString('base64url')}`;
  return `${signed}.${sign(signed).toString('base64url')}`;
}

/** The claims of a ticket that one of our keys signed and that has not expired; undefined for every other text. */
export function readTicket(name: string, keys: TicketKeys, nowMs = Date.now()): TicketClaims | undefined {
  if (name.length > maxTicketLength) return undefined;
  const match = pattern.exec(name);
  if (match === null) return undefined;
  const [, signed, claimsText, signatureText] = match as unknown as [string, string, string, string];
  const signature = canonicalBytes(signatureText);
  const written = parseClaims(canonicalBytes(claimsText));
  if (signature === undefined || written === undefined || !keys.isSigned(written.kid, signed, signature)) return undefined;
  if (nowMs >= written.exp * 1000) return undefined;
  return {
    subject: { id: written.sub, type: written.typ, ...(written.grp && { groups: written.grp }) },
    tokenId: written.jti,
    resourceId: written.res,
    mode: written.rw ? 'READ_WRITE' : 'READ_ONLY',
    expiresAt: written.exp,
  };
}

/** Node's decoder is lenient; only what encodes to the same text again is taken. */
function canonicalBytes(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64url');
  return bytes.toString('base64url') === text ? bytes : undefined;
}

function parseClaims(bytes: Buffer | undefined): WrittenClaims | undefined {
  if (bytes === undefined) return undefined;
  let written: Partial<Record<keyof WrittenClaims, unknown>> | null;
  try {
    written = JSON.parse(bytes.toString()) as typeof written;
  } catch {
    return undefined;
  }
  if (typeof written !== 'object' || written === null) return undefined;
  const { kid, sub, typ, grp, jti, res, rw, exp } = written;
  const isWhole =
    [kid, sub, typ, res].every((text) => typeof text === 'string') &&
    (grp === undefined || (Array.isArray(grp) && grp.every((group) => typeof group === 'string'))) &&
    (jti === undefined || typeof jti === 'string') &&
    typeof rw === 'boolean' &&
    Number.isSafeInteger(exp);
  return isWhole ? (written as WrittenClaims) : undefined;
}
