// A certificate authority of our own and the server certificate that it issues, for clients that demand TLS: Go (SSL_CERT_FILE), Node
// (NODE_EXTRA_CA_CERTS), Python (root_certificates) and Java trust the authority's certificate, ca.pem. Pure functions of key material;
// where that is kept is the caller's affair. Profile: RFC 5280; serverAuth certificates live at most 397 days, as clients demand.
import { X509Certificate as NodeCertificate, createPrivateKey, randomBytes, webcrypto } from 'node:crypto';
import type { X509Certificate } from '@peculiar/x509';
import { type CertificateName, namesOfCertificate, parseCertificateName } from './certificate-names.ts';
import type { ServerCertificate } from './listen.ts';

/** Both PEM. Whoever has the key can pose as this service to everyone who trusts the certificate. */
export interface CertificateAuthority {
  certificate: string;
  key: string;
}

const dayMs = 24 * 3600 * 1000;
/** Clocks of clients may be a little behind. */
const backdateMs = 3600 * 1000;
const authorityLifeMs = 3650 * dayMs;
/** 397 days; both ends of a validity belong to it. */
const serverLifeMs = 397 * dayMs - 1000;
const renewBeforeMs = 30 * dayMs;
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

/** Takes 100 ms and is needed once a year. The polyfill comes first: a library inside refuses to load without it. */
async function loadX509() {
  await import('reflect-metadata');
  return import('@peculiar/x509');
}

/** A new authority, good for 10 years. */
export async function createCertificateAuthority(now = new Date()): Promise<CertificateAuthority> {
  const x509 = await loadX509();
  const keys = await generateKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerialNumber(),
    // A name of its own: clients that know several of our authorities find the right one by it.
    name: `CN=Obraz local CA ${randomBytes(4).toString('hex')}`,
    notBefore: new Date(now.getTime() - backdateMs),
    notAfter: new Date(now.getTime() - backdateMs + authorityLifeMs),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: toPem(certificate), key: await keyToPem(keys.privateKey) };
}

/**
 * A certificate for the names (DNS names, IPv4 and IPv6 addresses), good for 397 days or as long as the authority; the chain holds the
 * authority's after it.
 * @throws RangeError for a name that a certificate cannot have.
 */
export async function issueServerCertificate(
  authority: CertificateAuthority,
  names: readonly string[],
  now = new Date(),
): Promise<ServerCertificate> {
  const parsed = parseNames(names);
  const x509 = await loadX509();
  const issuer = new x509.X509Certificate(authority.certificate);
  const keys = await generateKeys();
  const notBefore = new Date(now.getTime() - backdateMs);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: newSerialNumber(),
    issuer: issuer.subjectName,
    subject: [{ CN: ['Obraz'] }],
    notBefore,
    notAfter: new Date(Math.min(notBefore.getTime() + serverLifeMs, issuer.notAfter.getTime())),
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey,
    signingKey: await signingKey(authority),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(parsed.map(({ type, value }) => ({ type, value }))),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
    ],
  });
  return { certificate: toPem(certificate) + authority.certificate, key: await keyToPem(keys.privateKey) };
}

/** False when the certificate should be issued anew: other names, less than 30 days left, another authority, another key. */
export function isCurrent(
  { certificate, key }: ServerCertificate,
  authority: CertificateAuthority,
  names: readonly string[],
  now = new Date(),
): boolean {
  try {
    const leaf = new NodeCertificate(certificate);
    const issuer = new NodeCertificate(authority.certificate);
    const wanted = new Set(parseNames(names).map(({ value }) => value));
    return (
      leaf.validToDate.getTime() - now.getTime() >= renewBeforeMs &&
      leaf.verify(issuer.publicKey) &&
      leaf.checkPrivateKey(createPrivateKey(key)) &&
      wanted.symmetricDifference(namesOfCertificate(leaf)).size === 0
    );
  } catch (error) {
    if (error instanceof RangeError) throw error;
    // What was kept cannot be read: a new one is as good.
    return false;
  }
}

function parseNames(names: readonly string[]): CertificateName[] {
  const unique = new Map(names.map(parseCertificateName).map((name) => [name.value, name]));
  if (unique.size === 0) throw new RangeError('a certificate needs a name');
  return [...unique.values()];
}

const generateKeys = (): Promise<webcrypto.CryptoKeyPair> => webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);

const signingKey = ({ key }: CertificateAuthority): Promise<webcrypto.CryptoKey> =>
  webcrypto.subtle.importKey('pkcs8', createPrivateKey(key).export({ type: 'pkcs8', format: 'der' }), algorithm, false, ['sign']);

async function keyToPem(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key));
  return createPrivateKey({ key: der, type: 'pkcs8', format: 'der' }).export({ type: 'pkcs8', format: 'pem' }).toString();
}

const toPem = (certificate: X509Certificate): string => `${certificate.toString('pem').trimEnd()}\n`;

/** 127 random bits, positive, as RFC 5280 section 4.1.2.2 asks. */
function newSerialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return bytes.toString('hex');
}
