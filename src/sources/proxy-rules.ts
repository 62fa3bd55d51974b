// The operator's proxies: which one a request goes through. Names and meaning follow what curl and others do with HTTP_PROXY,
// HTTPS_PROXY and NO_PROXY; the environment itself is read by the configuration.
import ipaddr from 'ipaddr.js';
import { matches, parseAddress } from './address-ranges.ts';
import type { HttpUrl } from './source-uri.ts';

/** An HTTP proxy that is asked to CONNECT. Plain data; it may hold credentials. */
export interface Proxy {
  hostname: string;
  port: number;
  /** Value of Proxy-Authorization. */
  authorization: string | undefined;
}

/** Plain data. */
export interface ProxyRules {
  http: Proxy | undefined;
  https: Proxy | undefined;
  /**
   * Hosts that are reached without a proxy: `example.com` with all names below it, an address, a CIDR, `*` for all; each with an optional
   * `:port`.
   */
  exceptions: readonly string[];
}

export interface ProxySettings {
  httpProxy?: string | undefined;
  httpsProxy?: string | undefined;
  noProxy?: string | undefined;
}

/** A proxy's own loopback is another machine's: what the policy has allowed is this one's. */
export const loopbackExceptions = 'localhost,127.0.0.0/8,::1';

/** Empty texts mean "not set". @throws Error naming the setting and what is wrong with it. */
export function parseProxyRules(settings: ProxySettings): ProxyRules {
  return {
    http: parseProxy('HTTP_PROXY', settings.httpProxy),
    https: parseProxy('HTTPS_PROXY', settings.httpsProxy),
    exceptions: (settings.noProxy ?? '')
      .split(/[\s,]+/)
      .map((item) => item.toLowerCase())
      .filter((item) => item !== ''),
  };
}

function parseProxy(setting: string, text = ''): Proxy | undefined {
  if (text === '') return undefined;
  // As curl reads it: without a scheme it is an HTTP proxy.
  const withScheme = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  const url = URL.canParse(withScheme) ? new URL(withScheme) : undefined;
  // The text itself is not repeated: it may hold a password.
  if (url?.protocol !== 'http:')
    throw new Error(`${setting}: must be http://host:port; other kinds of proxies are not supported`);
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '')
    throw new Error(`${setting}: must be http://host:port without a path`);
  const credentials = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  return {
    hostname: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? 80 : Number(url.port),
    authorization: credentials === ':' ? undefined : `Basic ${Buffer.from(credentials).toString('base64')}`,
  };
}

/** A name whose addresses are all exceptions is one as well: it was resolved before, unlike in most programs. */
type Place = HttpUrl & { addresses?: readonly string[] };

export function proxyFor(place: Place, rules: ProxyRules | undefined): Proxy | undefined {
  const proxy = place.protocol === 'https:' ? rules?.https : rules?.http;
  return proxy === undefined || isException(place, rules!.exceptions) ? undefined : proxy;
}

function isException({ hostname, addressFamily, port, addresses = [] }: Place, exceptions: readonly string[]): boolean {
  const hosts = exceptions.flatMap((text) => {
    // A single colon: a port. Several: an address of version 6.
    const parts = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
    if (parts !== null) return Number(parts[3]) === port ? [(parts[1] ?? parts[2])!] : [];
    return [text.replace(/^\[(.*)\]$/, '$1')];
  });
  if (hosts.includes('*')) return true;
  if (addressFamily === 0 && hosts.some((host) => isBelow(hostname, host.replace(/^\*?\./, '')))) return true;
  const judged = addressFamily === 0 ? addresses : [hostname];
  return judged.length > 0 && judged.every((address) => hosts.some((host) => covers(host, address)));
}

const isBelow = (hostname: string, name: string): boolean => hostname === name || hostname.endsWith(`.${name}`);

const covers = (host: string, address: string): boolean =>
  host === address || (ipaddr.isValidCIDR(host) && matches(parseAddress(address), ipaddr.parseCIDR(host)));
