// Where imports may go: the guard against requests forged through the service (SSRF). Every hop of every import passes `check` before
// a byte leaves, and is then connected to by one of the addresses that `check` answered, never by name: a name that resolves
// differently a second time (DNS rebinding) changes nothing.
//
// A name that does not resolve and a name that resolves only to forbidden addresses answer alike, so that nobody can use imports to
// find out which internal names exist.
import { lookup } from 'node:dns/promises';
import { networkInterfaces } from 'node:os';
import ipaddr from 'ipaddr.js';
import { type DomainError, invalidArgument, TransientError } from '../platform/errors.ts';
import { type Address, isPublicAddress, matches, parseAddress } from './address-ranges.ts';
import type { AllowRule } from './import-allow.ts';
import { describeServer, hostForUrl, type HttpUrl, type SourceUri } from './source-uri.ts';
import { untilAborted } from '../platform/until-aborted.ts';

export { type AllowRule, parseImportAllow } from './import-allow.ts';

/** Plain data: a thread can build the same policy from it. */
export interface UrlPolicyRules {
  allow: readonly AllowRule[];
  /** Ports that may be reached on public addresses. */
  publicPorts: readonly number[];
}

/** A checked place. Plain data. */
export interface Target extends HttpUrl {
  /** Checked addresses in the resolver's order, at least one. Connections go to these and nowhere else. */
  addresses: readonly string[];
  /** For TLS: the name that the certificate must cover, undefined when the URL names an address. */
  servername: string | undefined;
  hostHeader: string;
}

/** Answers all addresses of a name. @throws an error whose `code` is ENOTFOUND or ENODATA when it has none. */
export type Resolve = (hostname: string) => Promise<readonly string[]>;

export interface UrlPolicyOptions {
  resolve?: Resolve;
  resolveMs?: number;
  /** Addresses of this machine, refused like private ones: a firewall in front of it is not asked for them. */
  ownAddresses?: () => readonly string[];
}

const systemResolve: Resolve = async (hostname) =>
  (await lookup(hostname, { all: true, order: 'verbatim' })).map((answer) => answer.address);

const systemAddresses = (): string[] =>
  Object.values(networkInterfaces()).flatMap((entries) => (entries ?? []).map((entry) => entry.address));

export class UrlPolicy {
  readonly rules: UrlPolicyRules;
  readonly #resolve: Resolve;
  readonly #resolveMs: number;
  readonly #ownAddresses: () => readonly string[];
  readonly #ranges: { range: [Address, number]; port: number | undefined }[] = [];
  readonly #hosts: { host: string; port: number | undefined }[] = [];

  constructor(rules: UrlPolicyRules, options: UrlPolicyOptions = {}) {
    this.rules = rules;
    this.#resolve = options.resolve ?? systemResolve;
    this.#resolveMs = options.resolveMs ?? 10_000;
    this.#ownAddresses = options.ownAddresses ?? systemAddresses;
    for (const rule of rules.allow) {
      if ('cidr' in rule) this.#ranges.push({ range: ipaddr.parseCIDR(rule.cidr), port: rule.port });
      else this.#hosts.push({ host: rule.host, port: rule.port });
    }
  }

  /**
   * Judges what can be known from the text alone, before anything is looked up: at the call, so that the caller hears of it there.
   * @throws DomainError INVALID_ARGUMENT on field `uri`.
   */
  precheck({ url }: Pick<SourceUri, 'url'>): void {
    if (url.addressFamily !== 0) {
      if (!this.#isAllowed(url, url.hostname)) throw notAllowed(url);
    } else if (!this.#isHostAllowed(url) && !this.#canPortBeAllowed(url.port)) {
      throw invalidArgument(
        'uri',
        `port ${url.port} may not be reached by imports (allowed: ${this.rules.publicPorts.join(', ') || 'none'})`,
      );
    }
  }

  /**
   * Resolves the host and answers the addresses that may be connected to.
   * @throws DomainError INVALID_ARGUMENT on field `uri` when there is none; TransientError when the name could not be looked up now.
   */
  async check(url: HttpUrl, signal?: AbortSignal): Promise<Target> {
    this.precheck({ url });
    const resolved = url.addressFamily === 0 ? await this.#lookUp(url, signal) : [url.hostname];
    const addresses = [...new Set(resolved)].filter((address) => this.#isAllowed(url, address));
    if (addresses.length === 0) throw notReachable(url);
    const standardPort = url.protocol === 'https:' ? 443 : 80;
    return {
      ...url,
      addresses,
      servername: url.addressFamily === 0 ? url.hostname : undefined,
      hostHeader: url.port === standardPort ? hostForUrl(url) : describeServer(url),
    };
  }

  async #lookUp(url: HttpUrl, signal: AbortSignal | undefined): Promise<readonly string[]> {
    const deadline = AbortSignal.timeout(this.#resolveMs);
    try {
      // A lookup cannot be stopped, only left.
      return await untilAborted(
        this.#resolve(url.hostname),
        signal === undefined ? deadline : AbortSignal.any([deadline, signal]),
      );
    } catch (error) {
      signal?.throwIfAborted();
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOTFOUND' || code === 'ENODATA') throw notReachable(url);
      throw new TransientError(`uri: ${unreachableText(url)}`, { cause: error });
    }
  }

  #isAllowed(url: HttpUrl, text: string): boolean {
    let address: Address;
    try {
      address = parseAddress(text);
    } catch {
      return false;
    }
    if (this.#isHostAllowed(url)) return true;
    if (this.#ranges.some((rule) => opens(rule.port, url.port) && matches(address, rule.range))) return true;
    return this.rules.publicPorts.includes(url.port) && isPublicAddress(address) && !this.#isOwn(address);
  }

  #isHostAllowed = (url: HttpUrl): boolean =>
    this.#hosts.some((rule) => rule.host === url.hostname && opens(rule.port, url.port));

  /** Whether there is any address on which `port` may be reached. */
  #canPortBeAllowed = (port: number): boolean =>
    this.rules.publicPorts.includes(port) || this.#ranges.some((rule) => opens(rule.port, port));

  #isOwn(address: Address): boolean {
    const text = address.toString();
    return this.#ownAddresses().some((own) => own === text || parseOwn(own) === text);
  }
}

const opens = (rulePort: number | undefined, port: number): boolean => rulePort === undefined || rulePort === port;

const parseOwn = (text: string): string | undefined => (ipaddr.isValid(text) ? ipaddr.parse(text).toString() : undefined);

const howToOpen = 'the operator opens private addresses and other ports with OBRAZ_IMPORT_ALLOW';

/** For an address that the user wrote: nothing is given away by saying that it is the reason. */
const notAllowed = (url: HttpUrl): DomainError =>
  invalidArgument('uri', `address ${describeServer(url)} is not one that imports may reach; ${howToOpen}`);

const notReachable = (url: HttpUrl): DomainError => invalidArgument('uri', unreachableText(url));

const unreachableText = (url: HttpUrl): string =>
  `host ${describeServer(url)} does not lead to an address that imports may reach: check the name; ${howToOpen}`;
