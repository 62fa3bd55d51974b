import { spawnSync } from 'node:child_process';
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect } from 'node:tls';
import { expect } from 'chai';
import { createLog } from '../../../src/platform/log.ts';
import { defaultCertificateNames, parseCertificateName } from '../../../src/transport/certificate-names.ts';
import { CertificateRenewal } from '../../../src/transport/certificate-renewal.ts';
import { type ServerCertificate, listen } from '../../../src/transport/listen.ts';
import {
  type CertificateAuthority,
  createCertificateAuthority,
  isCurrent,
  issueServerCertificate,
} from '../../../src/transport/tls.ts';
import { until } from './test-server.ts';

const dayMs = 24 * 3600 * 1000;
const names = ['localhost', '127.0.0.1', '::1', 'Obraz.Example.com', '*.example.org', 'пример.рф'];

describe('TLS of our own', () => {
  let authority: CertificateAuthority;
  let certificate: ServerCertificate;
  let directory: string;
  before(async () => {
    authority = await createCertificateAuthority();
    certificate = await issueServerCertificate(authority, names);
    directory = await mkdtemp(path.join(tmpdir(), 'obraz-tls-'));
    await writeFile(path.join(directory, 'ca.pem'), authority.certificate);
    await writeFile(path.join(directory, 'server.pem'), certificate.certificate);
  });
  after(() => rm(directory, { recursive: true, force: true }));

  it('has an authority that may sign servers alone, for ten years, under a name of its own', async () => {
    const parsed = new X509Certificate(authority.certificate);
    expect(parsed.ca).to.equal(true);
    expect(parsed.subject).to.match(/^CN=Obraz local CA [0-9a-f]{8}$/);
    expect(parsed.verify(parsed.publicKey)).to.equal(true);
    const years = (parsed.validToDate.getTime() - Date.now()) / (365 * dayMs);
    expect(years).to.be.within(9.9, 10.1);
    expect(new X509Certificate((await createCertificateAuthority()).certificate).subject).to.not.equal(parsed.subject);
  });

  it('issues a certificate for the names, for no more than 397 days', () => {
    const leaf = new X509Certificate(certificate.certificate);
    expect(leaf.ca).to.equal(false);
    expect(leaf.subjectAltName).to.equal(
      'DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, DNS:obraz.example.com, DNS:*.example.org, DNS:xn--e1afmkfd.xn--p1ai',
    );
    expect(leaf.keyUsage).to.deep.equal(['1.3.6.1.5.5.7.3.1']);
    expect(leaf.checkPrivateKey(createPrivateKey(certificate.key))).to.equal(true);
    const days = (leaf.validToDate.getTime() - leaf.validFromDate.getTime() + 1000) / dayMs;
    expect(days).to.equal(397);
    expect(leaf.serialNumber).to.match(/^[4-7][0-9A-F]{31}$/);
  });

  it('sends the authority’s certificate along', () => {
    expect(certificate.certificate.match(/-----BEGIN CERTIFICATE-----/g)).to.have.length(2);
    expect(certificate.certificate.endsWith(authority.certificate)).to.equal(true);
  });

  it('never outlives its authority', async () => {
    const late = new Date(new X509Certificate(authority.certificate).validToDate.getTime() - 40 * dayMs);
    const leaf = new X509Certificate((await issueServerCertificate(authority, ['localhost'], late)).certificate);
    expect(leaf.validTo).to.equal(new X509Certificate(authority.certificate).validTo);
  });

  for (const bad of [
    '',
    'a b',
    'http://a',
    'a..b',
    '-a.example',
    'x'.repeat(64),
    '*',
    'a.*.b',
    '1.2.3.4.5:80',
    `${'a.'.repeat(130)}a`,
  ]) {
    it(`cannot cover the name "${bad.slice(0, 30)}"`, async () => {
      const failure = await issueServerCertificate(authority, ['localhost', bad]).catch((error: Error) => error);
      expect(failure).to.be.instanceOf(RangeError).and.have.property('message').that.includes('cannot be in a certificate');
    });
  }

  it('spells names in one way', () => {
    expect(
      ['LOCALHOST.', '[::1]', '0:0:0:0:0:0:0:1', '127.0.0.1', 'Пример.РФ'].map((name) => parseCertificateName(name).value),
    ).to.deep.equal(['localhost', '::1', '::1', '127.0.0.1', 'xn--e1afmkfd.xn--p1ai']);
    expect(defaultCertificateNames('my-host', ['a.b'])).to.deep.equal(['localhost', '127.0.0.1', '::1', 'a.b', 'my-host']);
    expect(defaultCertificateNames('a host name\n', [])).to.deep.equal(['localhost', '127.0.0.1', '::1']);
  });

  describe('knows a certificate that should be replaced:', () => {
    it('not one with the same names in another order and spelling', () => {
      expect(isCurrent(certificate, authority, [...names.toReversed(), 'LOCALHOST', '[::1]'])).to.equal(true);
    });

    it('one with other names', () => {
      expect(isCurrent(certificate, authority, names.slice(1))).to.equal(false);
      expect(isCurrent(certificate, authority, [...names, 'more.example'])).to.equal(false);
    });

    it('one with less than 30 days left', () => {
      const end = new X509Certificate(certificate.certificate).validToDate.getTime();
      expect(isCurrent(certificate, authority, names, new Date(end - 30 * dayMs))).to.equal(true);
      expect(isCurrent(certificate, authority, names, new Date(end - 30 * dayMs + 1))).to.equal(false);
      expect(isCurrent(certificate, authority, names, new Date(end + dayMs))).to.equal(false);
    });

    it('one of another authority, with another key, or none at all', async () => {
      expect(isCurrent(certificate, await createCertificateAuthority(), names)).to.equal(false);
      const other = await issueServerCertificate(authority, names);
      expect(isCurrent({ ...certificate, key: other.key }, authority, names)).to.equal(false);
      expect(isCurrent({ certificate: 'torn', key: '' }, authority, names)).to.equal(false);
    });
  });

  describe('is renewed', () => {
    const log = createLog({ level: 'silent' });

    it('at the start only when it must be', async () => {
      const options = { authority, names, log, onRenewed: () => {} };
      using kept = await CertificateRenewal.start({ ...options, kept: certificate });
      expect(kept.certificate).to.equal(certificate);
      using other = await CertificateRenewal.start({ ...options, names: ['localhost'], kept: certificate });
      expect(isCurrent(other.certificate, authority, ['localhost'])).to.equal(true);
      using fresh = await CertificateRenewal.start(options);
      expect(isCurrent(fresh.certificate, authority, names)).to.equal(true);
    });

    it('while the service runs, in time, once', async () => {
      let now = new Date();
      const renewed: ServerCertificate[] = [];
      using renewal = await CertificateRenewal.start({
        authority,
        names,
        kept: certificate,
        log,
        now: () => now,
        checkEveryMs: 5,
        onRenewed: (next) => renewed.push(next),
      });
      expect(renewal.certificate).to.equal(certificate);
      now = new Date(Date.now() + 380 * dayMs);
      await until(() => renewed.length > 0);
      expect(renewal.certificate).to.equal(renewed[0]);
      expect(isCurrent(renewed[0]!, authority, names, now)).to.equal(true);
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(renewed.length).to.equal(1);
    });
  });

  describe('is trusted', () => {
    it('by Node for every name, and for no other', async () => {
      await using port = await listen('127.0.0.1:0', certificate, (socket) => socket.end());
      const number = Number(port.address.split(':')[1]);
      const trust = (servername: string, ca: string): Promise<string> =>
        new Promise((resolve) => {
          const socket = connect({ host: '127.0.0.1', port: number, servername, ca }, () => {
            socket.end();
            resolve('trusted');
          });
          socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
        });
      for (const name of ['localhost', 'obraz.example.com', 'x.example.org']) {
        expect(await trust(name, authority.certificate), name).to.equal('trusted');
      }
      expect(await trust('other.example.com', authority.certificate)).to.equal('ERR_TLS_CERT_ALTNAME_INVALID');
      expect(await trust('localhost', (await createCertificateAuthority()).certificate)).to.equal('SELF_SIGNED_CERT_IN_CHAIN');
    });

    it('by OpenSSL with its strict rules', function () {
      const openssl = (...args: string[]) =>
        spawnSync('openssl', ['verify', '-x509_strict', '-purpose', 'sslserver', '-CAfile', 'ca.pem', ...args, 'server.pem'], {
          cwd: directory,
          encoding: 'utf8',
        });
      if (openssl().error !== undefined) {
        console.warn('SKIPPED: openssl is not installed');
        this.skip();
      }
      for (const name of ['localhost', 'obraz.example.com']) {
        expect(openssl('-verify_hostname', name).stdout.trim()).to.equal('server.pem: OK');
      }
      for (const address of ['127.0.0.1', '::1']) expect(openssl('-verify_ip', address).stdout.trim()).to.equal('server.pem: OK');
      expect(openssl('-verify_hostname', 'other.example.com').stderr).to.match(/hostname mismatch/i);
    });
  });
});
