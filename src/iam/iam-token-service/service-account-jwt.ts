// A service account's proof of identity: a JSON Web Token that one of its authorized keys signed. PS256 only; `kid` is the key, `iss`
// the account, `exp` at most an hour after `iat`. Any audience: the SDKs send a constant one, as a string or a list (facts, section 1.3).
import { createPublicKey, type KeyObject, randomBytes } from 'node:crypto';
import type { EntityManager } from '@mikro-orm/postgresql';
import { decodeProtectedHeader, errors, jwtVerify } from 'jose';
import { unauthenticated } from '../../platform/errors.ts';
import { activeAt } from '../active-account.ts';
import { AuthorizedKey } from '../authorized-key.entity.ts';
import type { Subject } from '../call.ts';
import { ServiceAccount } from '../service-account.entity.ts';

const maxJwtLength = 8000;
const maxLifetimeSeconds = 3600;
const clockSkewSeconds = 60;

/** Times of use are kept no finer, so that signing in is seldom a write. */
const useMarkIntervalMs = 60_000;

/** Notes that the key was used. @throws DomainError UNAUTHENTICATED, the same for whatever is wrong. */
export async function verifyServiceAccountJwt(em: EntityManager, jwt: string, nowMs = Date.now()): Promise<Subject> {
  const keyId = jwt.length <= maxJwtLength ? readKeyId(jwt) : undefined;
  if (keyId === undefined) throw unauthenticated();
  const key = await em.findOne(AuthorizedKey, { id: keyId });
  // Asked for without a key, too.
  const isOwner = { id: key?.serviceAccountId ?? '' };
  const account = await em.findOne(ServiceAccount, { $and: [isOwner, activeAt(new Date(nowMs))] });
  // Without a key one is read and the signature checked all the same: the time of an answer does not tell which keys there are.
  const isSigned = await isSignedBy(createPublicKey(key?.publicKey ?? decoyKey), jwt, key?.serviceAccountId, nowMs);
  if (!isSigned || key === null || account === null) throw unauthenticated();
  await markUse(em, key, nowMs);
  return { id: account.id, type: 'serviceAccount' };
}

async function markUse(em: EntityManager, { id, serviceAccountId, lastUsedAt }: AuthorizedKey, nowMs: number): Promise<void> {
  if (lastUsedAt != null && nowMs - lastUsedAt.getTime() < useMarkIntervalMs) return;
  const now = new Date(nowMs);
  await em.nativeUpdate(AuthorizedKey, { id }, { lastUsedAt: now });
  await em.nativeUpdate(ServiceAccount, { id: serviceAccountId }, { lastAuthenticatedAt: now });
}

function readKeyId(jwt: string): string | undefined {
  try {
    const { kid, alg } = decodeProtectedHeader(jwt);
    return alg === 'PS256' && typeof kid === 'string' && /^[a-z0-9]{1,50}$/.test(kid) ? kid : undefined;
  } catch {
    return undefined;
  }
}

async function isSignedBy(key: KeyObject, jwt: string, issuer: string | undefined, nowMs: number): Promise<boolean> {
  try {
    const { payload } = await jwtVerify(jwt, key, {
      algorithms: ['PS256'],
      requiredClaims: ['iss', 'iat', 'exp'],
      clockTolerance: clockSkewSeconds,
      currentDate: new Date(nowMs),
    });
    const { iss, iat, exp } = payload as { iss: unknown; iat: number; exp: number };
    return iss === issuer && iat <= nowMs / 1000 + clockSkewSeconds && exp > iat && exp - iat <= maxLifetimeSeconds;
  } catch (error) {
    // Keys that jose refuses to use are ours to know: they throw TypeError.
    if (error instanceof errors.JOSEError) return false;
    throw error;
  }
}

/** PEM of an RSA public key that nobody has the other half of: its modulus is a random number. */
const decoyKey = createPublicKey({
  format: 'jwk',
  key: { kty: 'RSA', e: 'AQAB', n: randomModulus().toString('base64url') },
}).export({ type: 'spki', format: 'pem' });

function randomModulus(): Buffer {
  const modulus = randomBytes(256);
  modulus[0]! |= 0x80;
  modulus[255]! |= 1;
  return modulus;
}
