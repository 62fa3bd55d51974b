// Which addresses belong to the public internet. What is not known to be public is not public: IPv4 outside of every special
// range, and IPv6 global unicast (2000::/3) outside of every special range within it (IANA special-purpose registries).
import ipaddr from 'ipaddr.js';

export type Address = ipaddr.IPv4 | ipaddr.IPv6;

/** What ipaddr.js counts as ordinary and is not. */
const alsoSpecial = [
  // The platform address of Azure's virtual machines (metadata, keys): public by number, but answered by the host itself.
  '168.63.129.16/32',
].map((cidr) => ipaddr.parseCIDR(cidr));

const globalUnicast = ipaddr.IPv6.parseCIDR('2000::/3');

/** Reads an address in its one usual form. @throws Error for anything else, zones and short forms included. */
export function parseAddress(text: string): Address {
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return ipaddr.IPv4.parse(text);
  if (!text.includes('%') && text.includes(':') && ipaddr.IPv6.isValid(text)) return ipaddr.IPv6.parse(text);
  throw new Error(`"${text}" is not an address`);
}

/**
 * False for private, loopback, link-local, metadata, shared (100.64/10), multicast, broadcast, unspecified, documentation, benchmark,
 * reserved and unique-local addresses, and for every way to wrap an IPv4 address in IPv6 (mapped, compatible, NAT64, 6to4, Teredo, ISATAP).
 */
export function isPublicAddress(address: Address): boolean {
  if (address.range() !== 'unicast') return false;
  if (alsoSpecial.some((range) => matches(address, range))) return false;
  return address.kind() === 'ipv4' || (matches(address, globalUnicast) && !isIsatap(address as ipaddr.IPv6));
}

export const matches = (address: Address, range: [Address, number]): boolean =>
  address.kind() === range[0].kind() && address.match(range[0], range[1]);

/** RFC 5214 section 6.1: an interface identifier of [02]00:5efe and an IPv4 address, below any prefix. */
const isIsatap = (address: ipaddr.IPv6): boolean => (address.parts[4]! & 0xfdff) === 0 && address.parts[5] === 0x5efe;
