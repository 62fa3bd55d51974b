// The setting OBRAZ_IMPORT_ALLOW: what imports may reach besides public addresses.
import ipaddr from 'ipaddr.js';
import { parseAddress } from './address-ranges.ts';

/** Opens a range of addresses, or all addresses of a host, on one port or, without `port`, on all. Plain data. */
export type AllowRule = { cidr: string; port?: number } | { host: string; port?: number };

/**
 * Reads a comma-separated list of CIDR or host, each with an optional `:port`; an IPv6 range with a port is written `[fd00::/8]:9000`.
 * @throws Error naming the item and what is wrong with it.
 */
export function parseImportAllow(text: string): AllowRule[] {
  return text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
    .map(parseItem);
}

type Fail = (why: string) => Error;

function parseItem(item: string): AllowRule {
  const fail: Fail = (why) => new Error(`"${item}": ${why}`);
  const [place, portText] = splitPort(item, fail);
  const rule = place.includes('/') || isNumeric(place) ? { cidr: parseRange(place, fail) } : { host: parseHost(place, fail) };
  if (portText === undefined) return rule;
  const port = Number(/^\d{1,5}$/.test(portText) ? portText : Number.NaN);
  if (!(port >= 1 && port <= 65_535)) throw fail(`port "${portText}" is not a number from 1 to 65535`);
  return { ...rule, port };
}

function splitPort(item: string, fail: Fail): [place: string, port: string | undefined] {
  if (!item.startsWith('[') && item.split(':').length > 2) return [item, undefined];
  const parts = /^\[([^\]]*)\](?::(.*))?$/.exec(item) ?? /^([^:[\]]*)(?::(.*))?$/.exec(item);
  if (parts === null) throw fail('must be a CIDR or a host with an optional :port; an IPv6 range with a port is [fd00::/8]:9000');
  return [parts[1]!, parts[2]];
}

/** An address, or something that was meant to be one: host names do not end in a number (URL standard, "ends in a number"). */
const isNumeric = (place: string): boolean => place.includes(':') || /(^|\.)(\d+|0x[0-9a-f]*)\.?$/i.test(place);

function parseRange(place: string, fail: Fail): string {
  const [addressText = '', prefixText] = place.split(/\/(.*)/s);
  let address;
  try {
    address = parseAddress(addressText);
  } catch {
    throw fail(`"${addressText}" is not an IPv4 or IPv6 address`);
  }
  const bits = address.kind() === 'ipv4' ? 32 : 128;
  const prefix = prefixText === undefined ? bits : Number(/^\d{1,3}$/.test(prefixText) ? prefixText : Number.NaN);
  if (!(prefix >= 0 && prefix <= bits)) throw fail(`prefix length "${prefixText}" is not a number from 0 to ${bits}`);
  const cidr = `${address.toString()}/${prefix}`;
  const network = (address.kind() === 'ipv4' ? ipaddr.IPv4 : ipaddr.IPv6).networkAddressFromCIDR(cidr);
  if (network.toString() !== address.toString())
    throw fail(`has bits beyond its prefix; did you mean ${network.toString()}/${prefix}?`);
  return cidr;
}

function parseHost(place: string, fail: Fail): string {
  if (place.includes('*')) throw fail('wildcards are not supported; name each host, or the addresses as a CIDR');
  const shown = place.endsWith('.') ? place.slice(0, -1) : place;
  const hostname = URL.canParse(`http://${shown}/`) ? new URL(`http://${shown}/`).hostname : '';
  if (!/^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?$/.test(hostname) || /[/?#@\\\s%]/.test(shown)) throw fail('is not a host name');
  return hostname;
}
