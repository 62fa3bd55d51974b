// How often who may call. Asked first, before a token is looked at: what is refused here has cost next to nothing. Loopback is an address
// like any other: what calls from there may act for strangers.
import { DomainError, rateLimited } from '../platform/errors.ts';
import type { CounterSeries, Metrics } from '../platform/metrics.ts';
import { networkOf } from '../platform/network-of.ts';
import { TokenBuckets } from '../platform/token-buckets.ts';

/** 0: no limit. */
export interface Rates {
  subjectCallsPerSecond: number;
  subjectChangesPerSecond: number;
  addressCallsPerSecond: number;
  failedAuthenticationsPerMinute: number;
}

/** What may be done at once of a limit per second: clients come in bursts. */
const burstSeconds = 5;
/** Each change leaves rows for as long as history is kept; a large plan of Terraform's is one burst. */
const changeBurstSeconds = 60;
/**
 * Tokens and proofs of one address that are looked at at once. They cannot count as failed before they have, so that many honest ones may
 * come in a moment; no more than so many can fail beyond the limit, which then owes them.
 */
const maxLooks = 1_000;
const looksRetryMs = 1_000;
/** Memory for one limit is a few MB at most. */
const maxCallers = 20_000;

export class RateLimits {
  readonly #rates: Rates;
  readonly #subjects: TokenBuckets;
  readonly #changes: TokenBuckets;
  readonly #addresses: TokenBuckets;
  readonly #failures: TokenBuckets;
  /** How many are looked at, by address; and those that more than one call waits for, by address and token. */
  readonly #looking = new Map<string, number>();
  readonly #looks = new Map<string, Promise<unknown>>();
  /** Of IPv6 addresses. */
  readonly #networks = new Map<string, string>();
  readonly #refused: Record<'subject' | 'change' | 'address' | 'authentication', CounterSeries>;

  constructor(rates: Rates, metrics: Metrics, now?: () => number) {
    const clock = now === undefined ? {} : { now };
    const perSecond = (calls: number, seconds = burstSeconds) =>
      new TokenBuckets({ perSecond: calls, burst: calls * seconds, maxKeys: maxCallers, ...clock });
    this.#rates = rates;
    this.#subjects = perSecond(rates.subjectCallsPerSecond);
    this.#changes = perSecond(rates.subjectChangesPerSecond, changeBurstSeconds);
    this.#addresses = perSecond(rates.addressCallsPerSecond);
    const failures = rates.failedAuthenticationsPerMinute;
    this.#failures = new TokenBuckets({ perSecond: failures / 60, burst: failures, maxKeys: maxCallers, ...clock });
    const refused = metrics.counter({
      name: 'obraz_rate_limited_calls_total',
      help: 'Calls that were refused because there were too many, by whose they were.',
      labels: { limit: ['subject', 'change', 'address', 'authentication'] },
    });
    this.#refused = {
      subject: refused.with({ limit: 'subject' }),
      change: refused.with({ limit: 'change' }),
      address: refused.with({ limit: 'address' }),
      authentication: refused.with({ limit: 'authentication' }),
    };
  }

  /** Of a peer, `192.0.2.1:4242`, `2001:db8::1:4242` as grpc-js writes it, or `[2001:db8::1]:4242`. To read an IPv6 address takes longer than all the rest here: those are remembered. */
  #networkOf(peer: string): string {
    const address = peer.slice(0, peer.lastIndexOf(':'));
    if (!address.includes(':')) return address;
    const known = this.#networks.get(address);
    if (known !== undefined) return known;
    const network = networkOf(address.replace(/^\[(.*)\]$/, '$1'));
    if (this.#networks.size >= maxCallers) this.#networks.clear();
    this.#networks.set(address, network);
    return network;
  }

  /** A call from a peer, `192.0.2.1:4242`, whoever it is. @throws DomainError RESOURCE_EXHAUSTED. */
  admit(peer: string): void {
    const waitMs = this.#addresses.take(this.#networkOf(peer));
    if (waitMs === 0) return;
    this.#refused.address.inc();
    throw rateLimited(`Too many calls from your address: at most ${this.#rates.addressCallsPerSecond} per second`, waitMs);
  }

  /** A call of a subject that is known. @throws DomainError RESOURCE_EXHAUSTED. */
  admitSubject(id: string): void {
    const waitMs = this.#subjects.take(id);
    if (waitMs === 0) return;
    this.#refused.subject.inc();
    throw rateLimited(`Too many calls of ${id}: at most ${this.#rates.subjectCallsPerSecond} per second`, waitMs);
  }

  /** Of that subject, or of a peer that proves who it is in the call, one that changes something. @throws DomainError RESOURCE_EXHAUSTED. */
  admitChange(id: string | undefined, peer: string): void {
    // Ids may be what the operator's identity provider likes: addresses, too.
    const waitMs = this.#changes.take(id === undefined ? `a ${this.#networkOf(peer)}` : `s ${id}`);
    if (waitMs === 0) return;
    this.#refused.change.inc();
    const who = id === undefined ? 'from your address' : `of ${id}`;
    throw rateLimited(`Too many changes ${who}: at most ${this.#rates.subjectChangesPerSecond} per second`, waitMs);
  }

  /** A call in which `id` has proved who it is, before anything comes of that. @throws DomainError RESOURCE_EXHAUSTED. */
  admitProven(id: string): void {
    this.admitSubject(id);
    this.admitChange(id, '');
  }

  /**
   * Looks at a token or a proof for the first time. One that is not good counts; while too many were not, none is looked at, good or not,
   * so that guessing costs us nothing. Tokens that were found good before do not come here. Calls with the same `token` at the same time
   * share one look.
   * @throws what `check` throws; DomainError RESOURCE_EXHAUSTED.
   */
  attempt<Answer>(peer: string, check: () => Promise<Answer>, token?: string): Promise<Answer> {
    const network = this.#networkOf(peer);
    if (token === undefined) return this.#look(network, check);
    const key = `${network} ${token}`;
    const shared = this.#looks.get(key) as Promise<Answer> | undefined;
    if (shared !== undefined) return shared;
    const look = this.#look(network, check).finally(() => this.#looks.delete(key));
    this.#looks.set(key, look);
    return look;
  }

  async #look<Answer>(network: string, check: () => Promise<Answer>): Promise<Answer> {
    const most = this.#rates.failedAuthenticationsPerMinute;
    if (most === 0) return check();
    const looking = this.#looking.get(network) ?? 0;
    const waitMs = this.#failures.waitMs(network);
    if (waitMs > 0 || looking >= maxLooks) {
      this.#refused.authentication.inc();
      throw waitMs > 0
        ? rateLimited(`Too many failed authentications from your address: at most ${most} per minute`, waitMs)
        : rateLimited(`Too many authentications at once from your address: at most ${maxLooks}`, looksRetryMs);
    }
    this.#looking.set(network, looking + 1);
    try {
      return await check();
    } catch (error) {
      if (error instanceof DomainError && error.code === 'UNAUTHENTICATED') this.#failures.charge(network);
      throw error;
    } finally {
      const others = this.#looking.get(network)! - 1;
      if (others > 0) this.#looking.set(network, others);
      else this.#looking.delete(network);
    }
  }
}
