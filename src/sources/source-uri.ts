// The URI of an import as a user writes it: http or https, with an optional digest of the file as its fragment. It is read strictly:
// what the URL standard would repair (numbers as hosts, backslashes, spaces, credentials) is refused, so that the host that
// the policy judges is the host that stands in the text. A URI may be signed: it is a secret, show `maskUri` of it.
import { isIPv4, isIPv6 } from 'node:net';
import { type DomainError, invalidArgument } from '../platform/errors.ts';

/** One place on the web, in parts that are ready for a request. Plain data. */
export interface HttpUrl {
  protocol: 'http:' | 'https:';
  /** Lower case, punycode, without brackets and trailing dot. */
  hostname: string;
  /** Whether `hostname` is an address: 4 or 6, or 0 for a name. */
  addressFamily: 0 | 4 | 6;
  port: number;
  /** Path and query, as sent in the request line. The query may hold a signature. */
  path: string;
}

export type DigestAlgorithm = 'sha256' | 'sha512';

export interface Digest {
  algorithm: DigestAlgorithm;
  /** Lower case. */
  hex: string;
}

export interface SourceUri {
  url: HttpUrl;
  /** What the file's bytes must hash to. */
  digest: Digest | undefined;
}

const maxUriLength = 8192;
const digestHexLength: Record<DigestAlgorithm, number> = { sha256: 64, sha512: 128 };
const label = '[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?';
const hostnamePattern = new RegExp(`^${label}(?:\\.${label})*$`);

/** @throws DomainError INVALID_ARGUMENT on field `uri`, saying what is wrong and never repeating the query. */
export function parseSourceUri(text: string): SourceUri {
  const hashAt = text.indexOf('#');
  const url = parseHttpUrl(hashAt === -1 ? text : text.slice(0, hashAt));
  return { url, digest: hashAt === -1 ? undefined : parseDigest(text.slice(hashAt + 1)) };
}

/** Reads an absolute URL without a fragment. @throws DomainError INVALID_ARGUMENT on field `uri`. */
export function parseHttpUrl(text: string): HttpUrl {
  if (text.length > maxUriLength) throw refused(`is ${text.length} characters long; ${maxUriLength} are allowed`);
  // eslint-disable-next-line no-control-regex
  if (/[\u0000-\u0020\u007f\\]/.test(text)) throw refused('must not hold spaces, control characters or backslashes');
  const shape = /^([a-z][a-z0-9+.-]*):(?:\/\/([^/?]*))?/i.exec(text);
  if (shape === null) throw refused('must be a URL such as https://example.com/disk.qcow2');
  const protocol = `${shape[1]!.toLowerCase()}:`;
  if (protocol !== 'http:' && protocol !== 'https:') throw refused(`scheme "${shape[1]}" is not supported; use http or https`);
  const authority = splitAuthority(shape[2] ?? '');
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined) throw refused(`host "${authority.host}" is not valid`);
  return {
    protocol,
    ...readHost(url.hostname, authority.host),
    port: authority.port ?? (protocol === 'https:' ? 443 : 80),
    path: `${url.pathname}${url.search}`,
  };
}

function splitAuthority(authority: string): { host: string; port: number | undefined } {
  if (authority.includes('@')) throw refused('must not hold a user name or password; use a signed URL instead');
  const parts = /^(\[[^\]]*\]|[^:[\]]*)(?::([^:]*))?$/.exec(authority);
  if (parts === null) throw refused(`host "${authority}" is not valid; write an IPv6 address in brackets`);
  const host = parts[1]!;
  if (host === '' || host === '[]') throw refused('names no host');
  if (host.includes('%')) throw refused(`host "${host}" must not hold "%": neither percent-encoding nor an IPv6 zone`);
  if (parts[2] === undefined) return { host, port: undefined };
  const port = /^\d{1,5}$/.test(parts[2]) ? Number(parts[2]) : 0;
  if (port < 1 || port > 65_535) throw refused(`port "${parts[2].slice(0, 20)}" is not a number from 1 to 65535`);
  return { host, port };
}

/** `normal` is the host as the URL standard reads `written`, which takes 2130706433, 0x7f.1 and full-width digits for 127.0.0.1. */
function readHost(normal: string, written: string): Pick<HttpUrl, 'hostname' | 'addressFamily'> {
  if (normal.startsWith('[')) {
    const address = normal.slice(1, -1);
    if (!isIPv6(address)) throw refused(`host "${written}" is not valid`);
    return { hostname: address, addressFamily: 6 };
  }
  if (isIPv4(normal)) {
    if (normal !== written)
      throw refused(`host "${written}" is a number; write an address as four decimal numbers, such as ${normal}`);
    return { hostname: normal, addressFamily: 4 };
  }
  const hostname = normal.endsWith('.') ? normal.slice(0, -1) : normal;
  if (hostname.length > 253 || !hostnamePattern.test(hostname)) throw refused(`host "${written.slice(0, 300)}" is not valid`);
  return { hostname, addressFamily: 0 };
}

function parseDigest(fragment: string): Digest | undefined {
  if (fragment === '') return undefined;
  const parts = /^(sha256|sha512)=([0-9a-f]*)$/i.exec(fragment);
  if (parts === null) throw refused('fragment is not supported; only #sha256=<hex> and #sha512=<hex> of the file are');
  const algorithm = parts[1]!.toLowerCase() as DigestAlgorithm;
  const hex = parts[2]!.toLowerCase();
  const expected = digestHexLength[algorithm];
  if (hex.length !== expected) throw refused(`${algorithm} digest has ${hex.length} hexadecimal digits; it needs ${expected}`);
  return { algorithm, hex };
}

/** `https://example.com:8443/a/b` : for messages; never the query. */
export function describeUrl(url: HttpUrl): string {
  const queryAt = url.path.indexOf('?');
  const path = queryAt === -1 ? url.path : url.path.slice(0, queryAt);
  const shown = path.length > 200 ? `${path.slice(0, 200)}…` : path;
  const standardPort = url.protocol === 'https:' ? 443 : 80;
  return `${url.protocol}//${hostForUrl(url)}${url.port === standardPort ? '' : `:${url.port}`}${shown}`;
}

/** `example.com:443`, `[2001:db8::1]:80`. */
export const describeServer = (url: HttpUrl): string => `${hostForUrl(url)}:${url.port}`;

export const hostForUrl = (url: HttpUrl): string => (url.addressFamily === 6 ? `[${url.hostname}]` : url.hostname);

const mask = 'XXXXXX';

/** The URI for logs, the audit and messages: values of the query, credentials and unknown fragments are replaced. Never throws. */
export function maskUri(uri: string): string {
  const parts = /^([^?#]*)(?:\?([^#]*))?(?:#(.*))?$/s.exec(uri)!;
  // Up to the last "@" before the path: a password may hold one too.
  const place = parts[1]!.replace(/^([^:/]*:)?([/\\]*)[^/\\]*@/, `$1$2${mask}@`);
  const query = parts[2]
    ?.split('&')
    .map((pair) => (pair === '' ? '' : pair.includes('=') ? `${pair.slice(0, pair.indexOf('='))}=${mask}` : mask))
    .join('&');
  const fragment = parts[3] === undefined || /^(?:sha256|sha512)=[0-9a-f]*$/i.test(parts[3]) ? parts[3] : mask;
  return `${place}${query === undefined ? '' : `?${query}`}${fragment === undefined ? '' : `#${fragment}`}`;
}

const refused = (description: string): DomainError => invalidArgument('uri', description);
