// Names that a server certificate covers.
import type { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';
import ipaddr from 'ipaddr.js';

export interface CertificateName {
  type: 'dns' | 'ip';
  /** In one spelling: lower case, punycode; addresses without leading zeros. */
  value: string;
}

const label = '[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?';
const dnsName = new RegExp(String.raw`^(?:\*\.)?${label}(?:\.${label})*$`);

/** @throws RangeError naming the text. */
export function parseCertificateName(text: string): CertificateName {
  const bare = text.replace(/^\[(.*)\]$/, '$1');
  if (isIP(bare) !== 0) return { type: 'ip', value: ipaddr.parse(bare).toString() };
  const wildcard = bare.startsWith('*.') ? '*.' : '';
  const value = wildcard + domainToASCII(bare.slice(wildcard.length).replace(/\.$/, ''));
  if (value.length > 253 || !dnsName.test(value)) {
    throw new RangeError(`"${text}" cannot be in a certificate: it is neither a DNS name nor an IP address`);
  }
  return { type: 'dns', value };
}

/** localhost, both loopback addresses, the host name as far as a certificate can hold it, and `more`. */
export function defaultCertificateNames(hostName: string, more: readonly string[]): string[] {
  const names = ['localhost', '127.0.0.1', '::1', ...more];
  try {
    return [...names, parseCertificateName(hostName).value];
  } catch {
    return names;
  }
}

/** Subject alternative names, each as parseCertificateName spells it. */
export function namesOfCertificate({ subjectAltName = '' }: X509Certificate): Set<string> {
  const names = subjectAltName.split(', ').map((name) => name.replace(/^(DNS|IP Address):/, ''));
  return new Set(names.map((name) => (isIP(name) === 0 ? name : ipaddr.parse(name).toString())));
}
