// The service's own certificate authority and the server certificate that it issues, for installations that bring none. Keys and
// certificates are PEM; where they are kept is the caller's affair.
// @peculiar/x509 stands on decorators' metadata; this comes first.
import 'reflect-metadata';
import { randomBytes, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
  AuthorityKeyIdentifierExtension,
} from '@peculiar/x509';
import type { ServerCertificate } from './listen.ts';

const dayMs = 24 * 60 * 60 * 1000;
const authorityDays = 10 * 365;
/** What browsers and Apple's clients take at most is 398 days. */
const serverDays = 397;
/** Clocks of clients that are behind. */
const backdatedMs = 60 * 60 * 1000;
export const renewBeforeMs = 30 * dayMs;

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/** An authority for ten years: its certificate is what clients trust, its key never leaves the service. */
export async function createCertificateAuthority(): Promise<ServerCertificate> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    // A name of its own: several installations can be trusted side by side.
    name: `CN=Obraz local authority ${randomBytes(4).toString('hex')}`,
    ...validFor(authorityDays),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: pemOf(certificate), key: await exportKey(keys.privateKey) };
}

/** A certificate for a server under `names` (DNS names and IP addresses), with the authority behind it in the chain. */
export async function issueServerCertificate(authority: ServerCertificate, names: readonly string[]): Promise<ServerCertificate> {
  const issuer = new X509Certificate(authority.certificate);
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: 'CN=Obraz',
    issuer: issuer.subject,
    ...validFor(serverDays),
    signingAlgorithm: algorithm,
    signingKey: await importKey(authority.key),
    publicKey: keys.publicKey,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
      new SubjectAlternativeNameExtension(names.map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value }))),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
      await AuthorityKeyIdentifierExtension.create(issuer),
    ],
  });
  return { certificate: `${pemOf(certificate)}${authority.certificate}`, key: await exportKey(keys.privateKey) };
}

const serialNumber = (): string => {
  const bytes = randomBytes(16);
  // Positive and not zero (RFC 5280, section 4.1.2.2).
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return bytes.toString('hex');
};

const validFor = (days: number): { notBefore: Date; notAfter: Date } => {
  const now = Date.now();
  return { notBefore: new Date(now - backdatedMs), notAfter: new Date(now + days * dayMs - backdatedMs) };
};

const pemOf = (certificate: X509Certificate): string => `${certificate.toString('pem')}\n`;

const exportKey = async (key: webcrypto.CryptoKey): Promise<string> =>
  `${PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), PemConverter.PrivateKeyTag)}\n`;

const importKey = (pem: string): Promise<webcrypto.CryptoKey> =>
  webcrypto.subtle.importKey('pkcs8', PemConverter.decodeFirst(pem), algorithm, false, ['sign']);
