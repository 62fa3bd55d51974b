import { createServer, type AddressInfo, type Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import { expect } from 'chai';
import { TransientError } from '../../../src/platform/errors.ts';
import { probeSource } from '../../../src/sources/probe.ts';
import { parseSourceUri } from '../../../src/sources/source-uri.ts';
import { parseImportAllow, type Resolve, type UrlPolicy } from '../../../src/sources/url-policy.ts';
import { startWebServer } from '../../support/web-server.ts';
import { expectDomainError, failure, impatient, policyFor } from './fixture.ts';

const answers = (table: Record<string, readonly string[]>): Resolve => {
  return async (hostname) => {
    const addresses = table[hostname];
    if (addresses === undefined) throw Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND' });
    return addresses;
  };
};

const strict = (table: Record<string, readonly string[]> = {}, allow = '') =>
  policyFor(allow, { resolve: answers(table), ownAddresses: () => ['93.184.216.99'] });

const check = (policy: UrlPolicy, uri: string) => policy.check(parseSourceUri(uri).url);

const forbidden = [
  '0.0.0.0',
  '0.1.2.3',
  '10.0.0.1',
  '100.64.0.1',
  '100.100.100.200',
  '127.0.0.1',
  '127.255.255.254',
  '168.63.129.16',
  '169.254.169.254',
  '172.16.0.1',
  '172.31.255.255',
  '192.0.0.192',
  '192.0.2.1',
  '192.88.99.1',
  '192.168.1.1',
  '198.18.0.1',
  '198.19.255.255',
  '198.51.100.1',
  '203.0.113.1',
  '224.0.0.1',
  '239.255.255.255',
  '240.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '::127.0.0.1',
  '::ffff:127.0.0.1',
  '::ffff:8.8.8.8',
  '::ffff:0:8.8.8.8',
  '64:ff9b::7f00:1',
  '64:ff9b::808:808',
  '64:ff9b:1::1',
  '100::1',
  '100:0:0:1::1',
  '2001::1',
  '2001:0:4136:e378:8000:63bf:3fff:fdd2',
  '2001:2::1',
  '2001:10::1',
  '2001:20::1',
  '2001:db8::1',
  '2002:7f00:1::1',
  '2002:808:808::1',
  '2606:4700::5efe:7f00:1',
  '2606:4700::200:5efe:7f00:1',
  '3fff::1',
  '4000::1',
  '5f00::1',
  'fc00::1',
  'fd00:ec2::254',
  'fe80::1',
  'fe80::1%eth0',
  'fec0::1',
  'ff02::1',
];

const open = [
  '1.1.1.1',
  '8.8.8.8',
  '93.184.216.34',
  '100.63.255.255',
  '172.32.0.1',
  '192.0.1.1',
  '223.255.255.255',
  '2606:4700::1111',
  '2a02:6b8::2:242',
];

describe('URL policy', () => {
  for (const address of forbidden) {
    it(`refuses ${address}, written as it is and behind a name`, async () => {
      const policy = strict({ 'evil.example': [address] });
      await expectDomainError(
        check(policy, 'http://evil.example/x'),
        'INVALID_ARGUMENT',
        'host evil.example:80 does not lead to an address',
      );
      if (address.includes('%')) return;
      const host = address.includes(':') ? `[${address}]` : address;
      expect(() => policy.precheck(parseSourceUri(`http://${host}/x`))).to.throw(
        /is not one that imports may reach.*OBRAZ_IMPORT_ALLOW/,
      );
    });
  }

  for (const address of open) {
    it(`lets ${address} through, written as it is and behind a name`, async () => {
      const policy = strict({ 'good.example': [address] });
      const target = await check(policy, 'https://good.example/x?y');
      expect(target).to.deep.include({
        addresses: [address],
        servername: 'good.example',
        hostHeader: 'good.example',
        path: '/x?y',
      });
      const host = address.includes(':') ? `[${address}]` : address;
      expect(await check(policy, `http://${host}/`)).to.deep.include({
        addresses: [address],
        servername: undefined,
        hostHeader: host,
      });
    });
  }

  it('uses only those addresses of a name that are allowed, each once and in their order', async () => {
    const policy = strict({ 'mixed.example': ['10.0.0.1', '8.8.8.8', '::1', '1.1.1.1', '8.8.8.8'] });
    expect((await check(policy, 'http://mixed.example/')).addresses).to.deep.equal(['8.8.8.8', '1.1.1.1']);
  });

  it('says the same of a name that does not exist and of one that leads to forbidden addresses', async () => {
    const policy = strict({ 'internal.example': ['10.0.0.1'] });
    const forbiddenError = await failure(check(policy, 'http://internal.example/'));
    const unknownError = await failure(check(policy, 'http://internal.elsewhere/'));
    expect(forbiddenError.message.replace('internal.example', 'X')).to.equal(
      unknownError.message.replace('internal.elsewhere', 'X'),
    );
    expect((forbiddenError as { code?: string }).code).to.equal((unknownError as { code?: string }).code);
  });

  it('calls a resolver that is away for now a passing trouble, and bounds how long it waits for one', async () => {
    const away = policyFor('', { resolve: () => Promise.reject(Object.assign(new Error(), { code: 'EAI_AGAIN' })) });
    expect(await failure(check(away, 'http://example.com/'))).to.be.instanceOf(TransientError);
    const silent = policyFor('', { resolve: () => new Promise(() => {}), resolveMs: 10 });
    expect(await failure(check(silent, 'http://example.com/'))).to.be.instanceOf(TransientError);
  });

  it('stops waiting for a resolver when it is aborted', async () => {
    const policy = policyFor('', { resolve: () => new Promise(() => {}) });
    const reason = new Error('cancelled');
    const error = await failure(policy.check(parseSourceUri('http://example.com/').url, AbortSignal.abort(reason)));
    expect(error).to.equal(reason);
  });

  it('never takes a host for an address that its resolver makes up', async () => {
    for (const nonsense of ['', 'localhost', '127.1', '0x7f.0.0.1', '1']) {
      const policy = strict({ 'odd.example': [nonsense] });
      await expectDomainError(check(policy, 'http://odd.example/'), 'INVALID_ARGUMENT', 'does not lead to');
    }
  });

  it('refuses the addresses of this machine, which a firewall in front of it would not see', async () => {
    await expectDomainError(
      check(strict({ 'own.example': ['93.184.216.99'] }), 'http://own.example/'),
      'INVALID_ARGUMENT',
      'does not lead',
    );
    const own = Object.values(networkInterfaces()).flatMap((entries) => (entries ?? []).map((entry) => entry.address));
    const policy = policyFor('', { resolve: async () => own });
    await expectDomainError(check(policy, 'http://own.example/'), 'INVALID_ARGUMENT', 'does not lead');
  });

  describe('ports', () => {
    it('are those of the configuration on public addresses', async () => {
      const policy = strict({ 'good.example': ['8.8.8.8'] });
      for (const uri of ['http://good.example:443/', 'https://good.example:80/']) await check(policy, uri);
      for (const port of [22, 81, 8080, 65_535]) {
        const uri = parseSourceUri(`http://good.example:${port}/`);
        expect(() => policy.precheck(uri)).to.throw(`port ${port} may not be reached by imports (allowed: 80, 443)`);
        await expectDomainError(policy.check(uri.url), 'INVALID_ARGUMENT', `port ${port} may not`);
        expect(() => policy.precheck(parseSourceUri(`http://8.8.8.8:${port}/`))).to.throw(/is not one that imports may reach/);
      }
    });

    it('are opened by the allow-list for what it names, and for nothing else', async () => {
      const policy = strict(
        { 'a.example': ['10.1.2.3'], 'b.example': ['10.200.0.1'], 'c.example': ['8.8.8.8'] },
        '10.1.0.0/16:9000, 10.200.0.0/16',
      );
      await check(policy, 'http://a.example:9000/');
      await check(policy, 'http://10.1.255.255:9000/');
      await check(policy, 'http://b.example/');
      await check(policy, 'http://b.example:12345/');
      await expectDomainError(check(policy, 'http://a.example/'), 'INVALID_ARGUMENT', 'does not lead');
      await expectDomainError(check(policy, 'http://a.example:9001/'), 'INVALID_ARGUMENT', 'does not lead');
      await expectDomainError(check(policy, 'http://c.example:9000/'), 'INVALID_ARGUMENT', 'does not lead');
      await expectDomainError(check(policy, 'http://10.2.0.1:9000/'), 'INVALID_ARGUMENT', 'is not one');
    });
  });

  describe('allow-list', () => {
    it('opens a host by name, whatever it resolves to, on its port', async () => {
      const policy = strict(
        { 'minio.corp': ['10.0.0.9', 'fd00::9'], 'other.corp': ['10.0.0.9'] },
        'MinIO.corp:9000, локальный.рф',
      );
      expect((await check(policy, 'http://minio.corp:9000/')).addresses).to.deep.equal(['10.0.0.9', 'fd00::9']);
      expect((await check(policy, 'http://minio.corp.:9000/')).hostHeader).to.equal('minio.corp:9000');
      await expectDomainError(check(policy, 'http://minio.corp/'), 'INVALID_ARGUMENT', 'does not lead');
      await expectDomainError(check(policy, 'http://other.corp:9000/'), 'INVALID_ARGUMENT', 'port 9000');
      await expectDomainError(check(policy, 'http://10.0.0.9:9000/'), 'INVALID_ARGUMENT', 'is not one');
    });

    it('opens IPv6 ranges, and mapped addresses only when they are named as such', async () => {
      const policy = strict({}, 'fd00::/8, [::1]:8080, 10.0.0.0/8');
      await check(policy, 'http://[fd12::1]:1234/');
      await check(policy, 'http://[::1]:8080/');
      await expectDomainError(check(policy, 'http://[::1]/'), 'INVALID_ARGUMENT', 'address [::1]:80');
      await expectDomainError(check(policy, 'http://[::ffff:10.0.0.1]/'), 'INVALID_ARGUMENT', 'is not one');
      await check(strict({}, '::ffff:10.0.0.0/104'), 'http://[::ffff:10.0.0.1]/');
    });

    it('can open the addresses of this machine', async () => {
      await check(strict({}, '93.184.216.99'), 'http://93.184.216.99:8000/');
    });

    const parsed: [text: string, rules: object[]][] = [
      ['', []],
      [' , ,', []],
      ['10.0.0.0/8', [{ cidr: '10.0.0.0/8' }]],
      ['10.1.2.3', [{ cidr: '10.1.2.3/32' }]],
      ['10.1.2.3:81', [{ cidr: '10.1.2.3/32', port: 81 }]],
      ['0.0.0.0/0:80,example.com', [{ cidr: '0.0.0.0/0', port: 80 }, { host: 'example.com' }]],
      ['::1', [{ cidr: '::1/128' }]],
      ['[::1]', [{ cidr: '::1/128' }]],
      ['[fd00::/8]:9000', [{ cidr: 'fd00::/8', port: 9000 }]],
      ['fd00::/8', [{ cidr: 'fd00::/8' }]],
      ['localhost:8080', [{ host: 'localhost', port: 8080 }]],
      ['Registry.Corp.', [{ host: 'registry.corp' }]],
    ];
    for (const [text, rules] of parsed) {
      it(`is read from "${text}"`, () => expect(parseImportAllow(text)).to.deep.equal(rules));
    }

    const wrong: [text: string, error: string][] = [
      ['10.0.0.0/33', '"10.0.0.0/33": prefix length "33" is not a number from 0 to 32'],
      ['10.0.0.0/', 'prefix length "" is not'],
      ['10.0.0.5/8', 'has bits beyond its prefix; did you mean 10.0.0.0/8?'],
      ['fd00::1/8', 'did you mean fd00::/8?'],
      ['10.0.0', '"10.0.0" is not an IPv4 or IPv6 address'],
      ['10.0.0/8', '"10.0.0" is not an IPv4 or IPv6 address'],
      ['0x7f000001', 'is not an IPv4 or IPv6 address'],
      ['2130706433', 'is not an IPv4 or IPv6 address'],
      ['fe80::1%eth0', 'is not an IPv4 or IPv6 address'],
      ['example.com:0', 'port "0" is not a number from 1 to 65535'],
      ['example.com:http', 'port "http" is not'],
      ['example.com:', 'port "" is not'],
      ['*.example.com', 'wildcards are not supported'],
      ['http://example.com', 'is not'],
      ['user@example.com', 'is not a host name'],
      ['[::1', 'must be a CIDR or a host'],
      ['a b', 'is not a host name'],
    ];
    for (const [text, error] of wrong) {
      it(`refuses "${text}" by name`, () => expect(() => parseImportAllow(`1.1.1.1,${text}`)).to.throw(error));
    }
  });
});

describe('URL policy on the wire', () => {
  let server: Server;
  let connections = 0;
  let port = 0;

  before(async () => {
    server = createServer((socket) => {
      connections += 1;
      socket.destroy();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    ({ port } = server.address() as AddressInfo);
  });
  beforeEach(() => (connections = 0));
  after(() => server.close());

  it('lets no connection arrive at a port that is not allowed, under any of its names', async () => {
    const policy = policyFor('', { resolve: async () => ['127.0.0.1'] });
    for (const host of [
      '127.0.0.1',
      'localhost',
      'evil.example',
      '2130706433',
      '0x7f000001',
      '0177.0.0.1',
      '127.1',
      '[::ffff:127.0.0.1]',
      '0.0.0.0',
    ]) {
      await failure(probeSource(`http://${host}:${port}/x`, policy, impatient));
    }
    expect(connections).to.equal(0);
  });

  it('connects to the address that was checked, when the name leads elsewhere the second time', async () => {
    await using web = await startWebServer({ content: new Uint8Array(10).fill(1) });
    let lookups = 0;
    const policy = policyFor(`127.0.0.1:${web.port}`, {
      resolve: async () => {
        lookups += 1;
        return lookups === 1 ? ['127.0.0.1'] : ['127.0.0.2'];
      },
    });
    const info = await probeSource(`http://rebinding.example:${web.port}/x`, policy, impatient);
    expect(lookups).to.equal(1);
    expect(info.target.addresses).to.deep.equal(['127.0.0.1']);
    expect(web.requests[0]!.headers.host).to.equal(`rebinding.example:${web.port}`);
    await expectDomainError(
      probeSource(`http://rebinding.example:${web.port}/x`, policy, impatient),
      'INVALID_ARGUMENT',
      'does not lead to',
    );
  });

  it('follows no redirect to a port, an address or a scheme that is not allowed', async () => {
    await using web = await startWebServer({ content: new Uint8Array(10) });
    const policy = policyFor(`127.0.0.1:${web.port}`, {
      resolve: async (hostname) => (hostname === 'name.example' ? ['127.0.0.1'] : ['169.254.169.254']),
    });
    for (const [location, text] of [
      [`http://127.0.0.1:${port}/x`, `address 127.0.0.1:${port} is not one that imports may reach`],
      [`http://localhost:${port}/x`, `port ${port} may not be reached`],
      [`//127.0.0.1:${port}/x`, `address 127.0.0.1:${port} is not one`],
      ['http://169.254.169.254/latest/meta-data/', 'address 169.254.169.254:80 is not one'],
      ['http://metadata.internal/', 'host metadata.internal:80 does not lead to'],
      [`http://2130706433:${port}/`, 'is a number'],
      [`http://0x7f.1:${port}/`, 'is a number'],
      [`http://x@127.0.0.1:${port}/`, 'user name or password'],
      [`/\\127.0.0.1:${port}/`, 'backslashes'],
      [`\\\\127.0.0.1:${port}/`, 'backslashes'],
      ['file:///etc/passwd', 'scheme "file" is not supported'],
      ['ftp://127.0.0.1/x', 'scheme "ftp" is not supported'],
      [`http:127.0.0.1:${port}/x`, 'names no host'],
    ] as const) {
      web.behave({ redirect: { location } });
      await expectDomainError(probeSource(web.url('/start?sig=SECRET'), policy, impatient), 'FAILED_PRECONDITION', text);
    }
    expect(connections).to.equal(0);
  });
});
