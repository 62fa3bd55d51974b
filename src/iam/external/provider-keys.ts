// The public keys of an OpenID Connect provider: from a configured address, or the one that its discovery document names (OpenID Connect
// Discovery 1.0, section 4). They are read when a token first needs them, again when a token names a key that is not among them (at most
// every 30 s), and after ten minutes in any case: a provider replaces its keys without a word to us.
import { createRemoteJWKSet, customFetch, type JWTVerifyGetKey } from 'jose';
import { z } from 'zod';
import type { Fetch } from './bounded-fetch.ts';
import { isProviderUrl } from './provider-url.ts';

const cooldownMs = 30_000;
const maxAgeMs = 600_000;

const discoverySchema = z.object({ issuer: z.string(), jwks_uri: z.string().refine(isProviderUrl) });

/** @throws (from the answered function) what `fetch` throws, jose's errors, Error for a discovery document that is not the issuer's. */
export function providerKeys({
  issuer,
  jwksUrl,
  fetch,
}: {
  issuer: string;
  jwksUrl?: string | undefined;
  fetch: Fetch;
}): JWTVerifyGetKey {
  let keys: Promise<JWTVerifyGetKey> | undefined;
  const open = async (): Promise<JWTVerifyGetKey> => {
    const url = new URL(jwksUrl ?? (await discover(issuer, fetch)));
    return createRemoteJWKSet(url, { cooldownDuration: cooldownMs, cacheMaxAge: maxAgeMs, [customFetch]: fetch });
  };
  return async (header, token) => {
    keys ??= open().catch((error: unknown) => {
      keys = undefined;
      throw error;
    });
    return (await keys)(header, token);
  };
}

async function discover(issuer: string, fetch: Fetch): Promise<string> {
  const response = await fetch(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`);
  const document = discoverySchema.parse(await response.json());
  if (document.issuer !== issuer) throw new Error(`the discovery document is that of ${document.issuer}, not of ${issuer}`);
  return document.jwks_uri;
}
