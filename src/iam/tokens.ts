// Who a token stands for. A token is checked in full once: signature, times, revocation, and that its account is active. After that it
// is remembered until it expires. Every 2 s revocations, accounts and keys are read again; when that has not worked for 10 s, what is
// remembered counts no more, and each token is checked against the database.
import { randomBytes, sign, verify } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { raw } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { isTransientDatabaseError } from '../db/database-error.ts';
import { TransientError, unauthenticated } from '../platform/errors.ts';
import { activeAt } from './active-account.ts';
import type { Subject } from './call.ts';
import { RevokedToken } from './revoked-token.entity.ts';
import { ServiceAccount } from './service-account.entity.ts';
import { SigningKeys } from './signing-keys.ts';
import { readToken, type TokenClaims, writeToken } from './token-format.ts';

export const maxTokenLifetimeMs = 12 * 3600 * 1000;

const defaultPollIntervalMs = 2_000;
const maxStalenessMs = 10_000;
/** Revocations are read again for this long, so that one which committed late, or raced with a check, is not missed. */
const overlapMs = 60_000;
const purgeIntervalMs = 600_000;
/** Differences between the clocks of processes. */
const clockSkewMs = 60_000;
/**
 * How long a revocation is kept after the end of its token. Tickets that were given for the token end with it, at the latest; a session that
 * one of them opened goes on, and learns of the revocation within seconds, or loses its lease.
 */
const keptRevocationMs = 24 * 3600 * 1000;
const maxRemembered = 10_000;
const userTypes: ReadonlySet<string> = new Set(['userAccount', 'federatedUser']);

export interface IssuedToken {
  token: string;
  expiresAt: Date;
}

export interface TokenAuthorityOptions {
  forkEm: () => EntityManager;
  /** The system groups of users, who live at an external identity provider. Without it tokens of users count no more. */
  userGroups?: readonly string[] | undefined;
  /** Hears of polls that fail, once per row of failures. */
  log?: { warn: (fields: object, text: string) => void } | undefined;
  pollIntervalMs?: number;
  /** Milliseconds since 1970; for tests. */
  now?: () => number;
  /** Milliseconds that never jump; for tests. */
  monotonicNow?: () => number;
}

interface Remembered {
  subject: Subject;
  tokenId: string;
  expiresAtMs: number;
}

export class TokenAuthority implements AsyncDisposable {
  readonly #forkEm: () => EntityManager;
  readonly #keys: SigningKeys;
  readonly #userGroups: readonly string[] | undefined;
  readonly #log: TokenAuthorityOptions['log'];
  readonly #now: () => number;
  readonly #monotonicNow: () => number;
  readonly #pollIntervalMs: number;
  readonly #stop = new AbortController();
  readonly #polling: Promise<void>;
  /** Good tokens by their text, oldest first. */
  readonly #remembered = new Map<string, Remembered>();
  readonly #tokensOf = new WeakMap<Subject, { id: string; expiresAtMs: number }>();
  /** Checks under way, so that a burst of calls with one new token asks the database once. */
  readonly #checking = new Map<string, Promise<Subject>>();
  /** Rises when something ends through this process: what was asked for before is not remembered. */
  #epoch = 0;
  /** Monotonic: when the revocations were last read. */
  #polledAt: number;
  #purgedAt = -Infinity;

  private constructor(options: TokenAuthorityOptions, keys: SigningKeys) {
    this.#forkEm = options.forkEm;
    this.#keys = keys;
    this.#userGroups = options.userGroups;
    this.#log = options.log;
    this.#now = options.now ?? Date.now;
    this.#monotonicNow = options.monotonicNow ?? (() => performance.now());
    this.#pollIntervalMs = options.pollIntervalMs ?? defaultPollIntervalMs;
    this.#polledAt = this.#monotonicNow();
    this.#polling = this.#pollForever();
  }

  /** Reads the signing keys, or makes the first one. */
  static async open(options: TokenAuthorityOptions): Promise<TokenAuthority> {
    return new TokenAuthority(options, await SigningKeys.load(options.forkEm()));
  }

  /** A fresh token. `ttlMs` is cut to 12 hours. */
  issue(subject: Subject, ttlMs = maxTokenLifetimeMs): IssuedToken {
    const now = this.#now();
    const key = this.#keys.current(now);
    const expiresAt = Math.floor((now + Math.min(ttlMs, maxTokenLifetimeMs)) / 1000);
    const claims: TokenClaims = {
      id: randomBytes(16).toString('base64url'),
      keyId: key.id,
      subject: { id: subject.id, type: subject.type },
      issuedAt: Math.floor(now / 1000),
      expiresAt,
    };
    return { token: writeToken(claims, key.privateKey), expiresAt: new Date(expiresAt * 1000) };
  }

  /** The subject of a token that was checked before; `undefined` says nothing about the token. No waiting: the hot path. */
  remembered(token: string): Subject | undefined {
    const entry = this.#remembered.get(token);
    if (entry === undefined) return undefined;
    if (this.#now() >= entry.expiresAtMs) {
      this.#remembered.delete(token);
      return undefined;
    }
    return this.#monotonicNow() - this.#polledAt < maxStalenessMs ? entry.subject : undefined;
  }

  /**
   * The subject that a token stands for. Waits only for tokens that are new to this process.
   * @throws DomainError UNAUTHENTICATED, the same for whatever is wrong; TransientError when the database does not answer.
   */
  async verify(token: string): Promise<Subject> {
    return this.remembered(token) ?? this.#checkOnce(token);
  }

  /**
   * The claims of a genuine token that has not expired, revoked or not.
   * @throws DomainError UNAUTHENTICATED.
   */
  read(token: string): TokenClaims {
    const now = this.#now();
    const claims = readToken(token, (id) => this.#keys.publicKey(id), this.#keys.current(now).publicKey);
    if (claims === undefined) throw unauthenticated();
    const issuedAtMs = claims.issuedAt * 1000;
    const expiresAtMs = claims.expiresAt * 1000;
    const isTimely =
      issuedAtMs <= now + clockSkewMs && now < expiresAtMs && expiresAtMs - issuedAtMs <= maxTokenLifetimeMs + clockSkewMs;
    if (!isTimely) throw unauthenticated();
    return claims;
  }

  /** Which token a subject came with, when `verify` or `remembered` answered this very object: what a revocation names. */
  tokenIdOf(subject: Subject): string | undefined {
    return this.#tokensOf.get(subject)?.id;
  }

  /** When that token ends by itself, milliseconds since 1970. */
  expiryOf(subject: Subject): number | undefined {
    return this.#tokensOf.get(subject)?.expiresAtMs;
  }

  /** Signs texts of another kind than tokens: they begin otherwise, so that neither passes for the other. */
  signer(): { keyId: string; sign: (text: string) => Buffer } {
    const { id, privateKey } = this.#keys.current(this.#now());
    return { keyId: id, sign: (text) => sign(null, Buffer.from(text), privateKey) };
  }

  /** Whether that key of ours signed the text. A key that is not known takes as long as a wrong signature. */
  isSigned(keyId: string, text: string, signature: Uint8Array): boolean {
    const key = this.#keys.publicKey(keyId);
    return verify(null, Buffer.from(text), key ?? this.#keys.current(this.#now()).publicKey, signature) && key !== undefined;
  }

  /** Ends a token: at once here, within seconds on other processes. Ending it again changes nothing. */
  async revoke({ id, expiresAt }: TokenClaims, beforeCommit?: (em: EntityManager) => Promise<unknown>): Promise<void> {
    await this.#forkEm().transactional(async (em) => {
      await em
        .createQueryBuilder(RevokedToken)
        .insert({ id, expiresAt: new Date(expiresAt * 1000) })
        .onConflict('id')
        .ignore()
        .execute();
      await beforeCommit?.(em);
    });
    this.#forgetChecks();
    this.#forget(new Set([id]));
  }

  /**
   * An account may not act any more, by the commit before this call: here its tokens end at once, on other processes within seconds. They
   * count again when it may.
   */
  forgetAccount(id: string): void {
    this.#forgetChecks();
    for (const [token, { subject }] of this.#remembered) {
      if (subject.id === id && !userTypes.has(subject.type)) this.#remembered.delete(token);
    }
  }

  /** Takes up what other processes revoked, and their keys. Called every 2 s. */
  async refresh(): Promise<void> {
    const startedAt = this.#monotonicNow();
    const em = this.#forkEm();
    const seconds = (startedAt - this.#polledAt + overlapMs) / 1000;
    const revoked = await em.find(
      RevokedToken,
      { revokedAt: { $gt: raw('now() - make_interval(secs => ?)', [seconds]) } },
      { fields: ['id'], disableIdentityMap: true },
    );
    this.#forget(new Set(revoked.map(({ id }) => id)));
    await this.#forgetInactive(em);
    await this.#keys.refresh(em);
    this.#polledAt = startedAt;
    if (startedAt - this.#purgedAt < purgeIntervalMs) return;
    this.#purgedAt = startedAt;
    await em.nativeDelete(RevokedToken, { expiresAt: { $lt: new Date(this.#now() - keptRevocationMs) } });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    // A poll may hang on a database that does not answer; it holds nothing.
    await Promise.race([this.#polling, sleep(1_000, undefined, { ref: false })]);
  }

  #checkOnce(token: string): Promise<Subject> {
    const running = this.#checking.get(token);
    if (running !== undefined) return running;
    // Signature and times first, without a wait: a forged token reaches neither the map nor the database.
    const claims = this.read(token);
    const check = this.#check(token, claims).finally(() => {
      if (this.#checking.get(token) === check) this.#checking.delete(token);
    });
    this.#checking.set(token, check);
    return check;
  }

  async #check(token: string, { id, subject: claimed, expiresAt }: TokenClaims): Promise<Subject> {
    const epoch = this.#epoch;
    const em = this.#forkEm();
    const isUser = userTypes.has(claimed.type);
    const subject: Subject = isUser ? { ...claimed, groups: this.#userGroups ?? [] } : claimed;
    const [revocations, account] = await fromDatabase(
      Promise.all([
        em.count(RevokedToken, { id }),
        em.fork().count(ServiceAccount, { $and: [{ id: subject.id }, activeAt(new Date(this.#now()))] }),
      ]),
    );
    const isActive = isUser ? this.#userGroups !== undefined : subject.type === 'serviceAccount' && account > 0;
    if (revocations > 0 || !isActive) throw unauthenticated();
    const expiresAtMs = expiresAt * 1000;
    this.#tokensOf.set(subject, { id, expiresAtMs });
    if (epoch === this.#epoch) this.#remember(token, { subject, tokenId: id, expiresAtMs });
    return subject;
  }

  #remember(token: string, entry: Remembered): void {
    if (this.#remembered.size >= maxRemembered) {
      const [oldest] = this.#remembered.keys();
      this.#remembered.delete(oldest!);
    }
    this.#remembered.set(token, entry);
  }

  /** Something has ended just now: checks that began before may not have seen it. */
  #forgetChecks(): void {
    this.#epoch += 1;
    this.#checking.clear();
  }

  #forget(tokenIds: ReadonlySet<string>): void {
    if (tokenIds.size === 0) return;
    for (const [token, { tokenId }] of this.#remembered) if (tokenIds.has(tokenId)) this.#remembered.delete(token);
  }

  /** Tokens end with their account. */
  async #forgetInactive(em: EntityManager): Promise<void> {
    const accounts = [...this.#remembered.values()].filter(({ subject }) => !userTypes.has(subject.type));
    const ids = new Set(accounts.map(({ subject }) => subject.id));
    if (ids.size === 0) return;
    const active = await em.find(
      ServiceAccount,
      { $and: [{ id: { $in: [...ids] } }, activeAt(new Date(this.#now()))] },
      { fields: ['id'], disableIdentityMap: true },
    );
    for (const { id } of active) ids.delete(id);
    if (ids.size === 0) return;
    for (const [token, { subject }] of this.#remembered) {
      if (ids.has(subject.id) && !userTypes.has(subject.type)) this.#remembered.delete(token);
    }
  }

  async #pollForever(): Promise<void> {
    const { signal } = this.#stop;
    let failing = false;
    while (!signal.aborted) {
      await sleep(this.#pollIntervalMs, undefined, { signal, ref: false }).catch(() => {});
      if (signal.aborted) return;
      try {
        await this.refresh();
        failing = false;
      } catch (error) {
        if (!failing) this.#log?.warn({ err: error }, 'revoked tokens cannot be read; remembered tokens count for 10 s more');
        failing = true;
      }
    }
  }
}

/** The database's troubles are the world's, not the token's. */
async function fromDatabase<Answer>(answer: Promise<Answer>): Promise<Answer> {
  try {
    return await answer;
  } catch (error) {
    if (!isTransientDatabaseError(error)) throw error;
    throw new TransientError('The token could not be checked. Try again.', { cause: error });
  }
}
