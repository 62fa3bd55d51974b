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
  /** Hosts that are reached without a proxy: `example.com` with all names below it, an address, a CIDR, or `*` for all. */
  exceptions: readonly string[];
}

/** Empty texts mean "not set". @throws Error naming the setting and what is wrong with it. */
export function parseProxyRules(settings: { httpProxy?: string; httpsProxy?: string; noProxy?: string }): ProxyRules {
  return {
    http: parseProxy('HTTP_PROXY', settings.httpProxy),
    https: parseProxy('HTTPS_PROXY', settings.httpsProxy),
    exceptions: (settings.noProxy ?? '')
      .split(',')
      .map((item) => item.trim().toLowerCase())
      .filter((item) => item !== ''),
  };
}

function parseProxy(setting: string, text = ''): Proxy | undefined {
  if (text === '') return undefined;
  const url = URL.canParse(text) ? new URL(text) : undefined;
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

export function proxyFor(url: HttpUrl, rules: ProxyRules | undefined): Proxy | undefined {
  const proxy = url.protocol === 'https:' ? rules?.https : rules?.http;
  return proxy === undefined || rules!.exceptions.some((exception) => isException(url, exception)) ? undefined : proxy;
}

function isException({ hostname, addressFamily }: HttpUrl, exception: string): boolean {
  if (exception === '*') return true;
  if (addressFamily === 0) {
    const name = exception.replace(/^\*?\./, '');
    return hostname === name || hostname.endsWith(`.${name}`);
  }
  if (exception === hostname) return true;
  return ipaddr.isValidCIDR(exception) && matches(parseAddress(hostname), ipaddr.parseCIDR(exception));
}
