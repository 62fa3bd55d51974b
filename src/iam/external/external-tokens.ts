// Tokens of users, given out by an OpenID Connect provider that the operator trusts: JSON Web Tokens with the configured issuer and one of
// the configured audiences, signed with one of the provider's keys. The user is the claim `sub`. A token that was checked is remembered
// for a few minutes, not until it expires: so keys that the provider takes back count no more soon after.
import { errors, jwtVerify, type JWTVerifyGetKey } from 'jose';
import { TransientError, unauthenticated } from '../../platform/errors.ts';
import type { Subject } from '../call.ts';
import { boundedFetch, unavailable } from './bounded-fetch.ts';
import { providerKeys } from './provider-keys.ts';

export interface ExternalTokensOptions {
  issuer: string;
  audiences: readonly string[];
  /** Default: where the issuer's discovery document says. */
  jwksUrl?: string | undefined;
  subjectType: 'userAccount' | 'federatedUser';
  /** System groups that every user belongs to. */
  groups: readonly string[];
  log?: { warn: (fields: object, text: string) => void } | undefined;
  /** Milliseconds since 1970; for tests. */
  now?: () => number;
}

export interface CheckedToken {
  subject: Subject;
  /** When the token ends by itself, milliseconds since 1970. */
  expiresAtMs: number;
}

const maxTokenLength = 4_000;
const clockSkewSeconds = 60;
const rememberMs = 300_000;
const maxRemembered = 2_000;

/** Signatures only: with a shared secret whoever checks tokens could make them. */
const algorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'];

/** As long as bindings take it (facts, section 4). */
const subjectPattern = /^[\x21-\x7e]{1,100}$/;
/** No user passes for one of our accounts, not even where ids stand without their type. */
const ownIdPattern = /^aje[0-9a-v]{17}$/;

export class ExternalTokens {
  readonly #options: ExternalTokensOptions;
  readonly #keys: JWTVerifyGetKey;
  readonly #now: () => number;
  /** Good tokens by their text, oldest first, and until when they are not checked again. */
  readonly #remembered = new Map<string, CheckedToken & { untilMs: number }>();
  readonly #expiries = new WeakMap<Subject, number>();

  constructor(options: ExternalTokensOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    const fetch = boundedFetch((error) => options.log?.warn({ err: error }, 'the identity provider cannot be read'));
    this.#keys = providerKeys({ issuer: options.issuer, jwksUrl: options.jwksUrl, fetch });
  }

  /** The user of a token that was checked a moment ago; `undefined` says nothing about the token. */
  remembered(token: string): Subject | undefined {
    const found = this.#remembered.get(token);
    if (found === undefined) return undefined;
    if (this.#now() < found.untilMs) return found.subject;
    this.#remembered.delete(token);
    return undefined;
  }

  /** When the token ends by itself that a subject came with, when `check` or `remembered` answered this very object. */
  expiryOf(subject: Subject): number | undefined {
    return this.#expiries.get(subject);
  }

  /** @throws DomainError UNAUTHENTICATED, the same for whatever is wrong; TransientError when the provider does not answer. */
  async check(token: string): Promise<CheckedToken> {
    if (token.length > maxTokenLength) throw unauthenticated();
    const { sub, exp } = await this.#verify(token);
    if (typeof sub !== 'string' || !subjectPattern.test(sub) || ownIdPattern.test(sub)) throw unauthenticated();
    const { subjectType: type, groups } = this.#options;
    const checked = { subject: { id: sub, type, groups }, expiresAtMs: exp! * 1000 };
    this.#expiries.set(checked.subject, checked.expiresAtMs);
    this.#remember(token, checked);
    return checked;
  }

  async #verify(token: string): Promise<{ sub?: unknown; exp?: number }> {
    const { issuer, audiences } = this.#options;
    try {
      const { payload } = await jwtVerify(token, this.#keys, {
        issuer,
        audience: [...audiences],
        algorithms,
        requiredClaims: ['sub', 'exp'],
        clockTolerance: clockSkewSeconds,
        currentDate: new Date(this.#now()),
      });
      return payload;
    } catch (error) {
      throw this.#verdict(error);
    }
  }

  #verdict(error: unknown): Error {
    if (error instanceof TransientError) return error;
    const isTokensFault = error instanceof errors.JOSEError && !providerFaults.has(error.code);
    // TypeError: a key that does not fit the algorithm which the token names, or is too short to be used.
    if (isTokensFault || error instanceof TypeError) return unauthenticated();
    this.#options.log?.warn({ err: error }, 'the identity provider answers what is not understood');
    return unavailable(error);
  }

  #remember(token: string, checked: CheckedToken): void {
    if (this.#remembered.size >= maxRemembered) {
      const [oldest] = this.#remembered.keys();
      this.#remembered.delete(oldest!);
    }
    this.#remembered.set(token, { ...checked, untilMs: Math.min(checked.expiresAtMs, this.#now() + rememberMs) });
  }
}

const providerFaults: ReadonlySet<string> = new Set([errors.JWKSInvalid.code, errors.JWKSTimeout.code, errors.JOSEError.code]);
