// Certificates for TLS in tests: an authority, and certificates of servers and clients that it signs (RFC 5280, written in DER by hand:
// a dozen fields are all that a handshake needs).
import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';

export interface Authority {
  /** PEM of the authority itself: what a client has to trust. */
  pem: string;
  /** A certificate and its key in PEM; without names it is a client's. `subject` has a common name for each of its texts. */
  issue(names: readonly string[], notAfter?: Date, subject?: readonly string[]): { cert: string; key: string };
}

const dayMs = 86_400_000;

export function makeAuthority(): Authority {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issuer = commonName(`Test authority ${randomBytes(4).toString('hex')}`);
  const tomorrow = new Date(Date.now() + dayMs);
  const sealed = { issuer, signingKey: privateKey };
  const isAuthority = extension('551d13', true, sequence(der(0x01, Buffer.from([0xff]))));
  return {
    pem: certificate({ ...sealed, subject: issuer, key: privateKey, notAfter: tomorrow, extensions: [isAuthority] }),
    issue(names, notAfter = tomorrow, subject = ['Test server']) {
      const { privateKey: key } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const alternatives = names.map((name) =>
        /^[\d.]+$/.test(name) ? der(0x87, Buffer.from(name.split('.').map(Number))) : der(0x82, Buffer.from(name)),
      );
      const extensions = names.length === 0 ? [] : [extension('551d11', false, sequence(...alternatives))];
      const cert = certificate({ ...sealed, subject: commonName(...subject), key, notAfter, extensions });
      return { cert, key: key.export({ type: 'pkcs8', format: 'pem' }).toString() };
    },
  };
}

interface Fields {
  subject: Buffer;
  issuer: Buffer;
  key: KeyObject;
  signingKey: KeyObject;
  notAfter: Date;
  extensions: Buffer[];
}

function certificate({ subject, issuer, key, signingKey, notAfter, extensions }: Fields): string {
  const ecdsaWithSha256 = sequence(objectId('2a8648ce3d040302'));
  const content = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.concat([Buffer.from([1]), randomBytes(15)])),
    ecdsaWithSha256,
    issuer,
    sequence(time(new Date(Date.now() - 10 * dayMs)), time(notAfter)),
    subject,
    createPublicKey(key).export({ type: 'spki', format: 'der' }),
    ...(extensions.length === 0 ? [] : [der(0xa3, sequence(...extensions))]),
  );
  const signature = der(0x03, Buffer.concat([Buffer.from([0]), sign('sha256', content, signingKey)]));
  const base64 = sequence(content, ecdsaWithSha256, signature).toString('base64');
  return `-----BEGIN CERTIFICATE-----\n${base64.match(/.{1,64}/g)!.join('\n')}\n-----END CERTIFICATE-----\n`;
}

function der(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}

const sequence = (...parts: Buffer[]): Buffer => der(0x30, Buffer.concat(parts));

const objectId = (hex: string): Buffer => der(0x06, Buffer.from(hex, 'hex'));

const commonName = (...names: string[]): Buffer =>
  sequence(...names.map((name) => der(0x31, sequence(objectId('550403'), der(0x0c, Buffer.from(name))))));

const time = (date: Date): Buffer => der(0x18, Buffer.from(date.toISOString().replace(/\.\d+|[-:T]/g, '')));

const extension = (id: string, isCritical: boolean, value: Buffer): Buffer =>
  sequence(objectId(id), ...(isCritical ? [der(0x01, Buffer.from([0xff]))] : []), der(0x04, value));
