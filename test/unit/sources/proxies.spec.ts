import { expect } from 'chai';
import { loopbackExceptions, parseProxyRules, proxyFor } from '../../../src/sources/proxy-rules.ts';
import { probeSource } from '../../../src/sources/probe.ts';
import { httpRangeSource } from '../../../src/sources/range-reader.ts';
import { parseSourceUri } from '../../../src/sources/source-uri.ts';
import { startConnectProxy } from '../../support/connect-proxy.ts';
import { startWebServer } from '../../support/web-server.ts';
import { makeAuthority } from '../../support/certificates.ts';
import { expectDomainError, expectTransientError, failure, impatient, patternBytes, policyFor, sameBytes } from './fixture.ts';
import { startRawServer } from './raw-server.ts';

const content = patternBytes(3_000_000);

const rulesOf = (proxy: { url: (credentials?: string) => string }, noProxy = '', credentials = '') => {
  const url = proxy.url(credentials);
  return parseProxyRules({ httpProxy: url, httpsProxy: url, noProxy });
};

describe('proxies', () => {
  it('carry imports over http to the checked address', async () => {
    await using server = await startWebServer({ content });
    await using proxy = await startConnectProxy();
    const policy = policyFor('127.0.0.1', { resolve: async () => ['127.0.0.1'] });
    const info = await probeSource(`http://name.example:${server.port}/x`, policy, {
      ...impatient,
      proxies: rulesOf(proxy, '', 'user:p%40ss@'),
    });
    await using source = httpRangeSource(structuredClone(info), { ...impatient, partBytes: 700_000 });
    const bytes = new Uint8Array(content.length);
    await source.read(bytes, 0);
    expect(sameBytes(bytes, content)).to.equal(true);
    expect(proxy.asked.length).to.equal(server.connectionCount);
    expect(new Set(proxy.asked.map(({ place }) => place))).to.deep.equal(new Set([`127.0.0.1:${server.port}`]));
    expect(proxy.asked[0]!.authorization).to.equal(`Basic ${Buffer.from('user:p@ss').toString('base64')}`);
  });

  it('carry imports over https, whose certificate must be that of the source', async () => {
    const authority = makeAuthority();
    await using proxy = await startConnectProxy();
    for (const [host, names, isTrusted] of [
      ['localhost', ['localhost'], true],
      ['127.0.0.1', ['127.0.0.1'], true],
      ['localhost', ['other.example'], false],
      ['127.0.0.1', ['localhost'], false],
    ] as const) {
      await using server = await startWebServer({ content, tls: authority.issue(names) });
      const options = { ...impatient, proxies: rulesOf(proxy), certificateAuthorities: authority.pem };
      const probing = probeSource(`https://${host}:${server.port}/x`, policyFor(), options);
      if (!isTrusted) {
        await expectDomainError(probing, 'FAILED_PRECONDITION', 'is not trusted (ERR_TLS_CERT_ALTNAME_INVALID)');
        continue;
      }
      await using source = httpRangeSource(await probing, impatient);
      for (const length of [100_000, 2_900_000]) {
        const bytes = new Uint8Array(length);
        await source.read(bytes, 70_000);
        expect(sameBytes(bytes, content.subarray(70_000, 70_000 + length))).to.equal(true);
      }
    }
  });

  it('are not asked for what the policy refuses, nor for exceptions', async () => {
    await using server = await startWebServer({ content });
    await using proxy = await startConnectProxy();
    await failure(probeSource(server.url(), policyFor(''), { ...impatient, proxies: rulesOf(proxy) }));
    await probeSource(server.url(), policyFor(), { ...impatient, proxies: rulesOf(proxy, '127.0.0.0/8') });
    expect(proxy.asked).to.deep.equal([]);
  });

  it('that refuse are told from sources that do not answer', async () => {
    await using server = await startWebServer({ content });
    for (const [status, text] of [
      [403, 'The proxy of this service does not lead to the source: it answered 403'],
      [407, 'The proxy of this service does not lead to the source: it answered 407'],
      [502, `Source server 127.0.0.1:${server.port} did not answer over http`],
      [504, `Source server 127.0.0.1:${server.port} did not answer over http`],
    ] as const) {
      await using proxy = await startConnectProxy(() => status);
      await expectTransientError(probeSource(server.url(), policyFor(), { ...impatient, proxies: rulesOf(proxy) }), text);
    }
  });

  it('that are none are refused', async () => {
    const closed = await startRawServer(() => undefined);
    await closed[Symbol.asyncDispose]();
    await using ssh = await startRawServer(() => 'SSH-2.0-OpenSSH\r\n\r\n');
    await using endless = await startRawServer(() => 'a'.repeat(100_000));
    await using eager = await startRawServer(() => 'HTTP/1.1 200 OK\r\n\r\nmore');
    await using silent = await startRawServer(() => undefined);
    for (const [{ port }, text] of [
      [closed, 'it did not answer'],
      [ssh, 'it does not speak HTTP'],
      [endless, 'its answer is too long'],
      [eager, 'it sent more than its answer'],
      [silent, 'it did not answer'],
    ] as const) {
      const proxies = parseProxyRules({ httpProxy: `http://127.0.0.1:${port}` });
      const connectMs = port === silent.port ? 50 : 10_000;
      const options = { proxies, timeouts: { connectMs }, retry: { ...impatient.retry, maxAttempts: 2 } };
      await expectTransientError(probeSource('http://127.0.0.1:9/x', policyFor(), options), text);
    }
  });

  it('are left at once when the import is aborted', async () => {
    await using silent = await startRawServer(() => undefined);
    const abort = new AbortController();
    const reason = new Error('cancelled');
    const proxies = parseProxyRules({ httpProxy: `http://127.0.0.1:${silent.port}` });
    const probing = failure(probeSource('http://127.0.0.1:9/x', policyFor(), { proxies, signal: abort.signal }));
    while (silent.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
    abort.abort(reason);
    expect(await probing).to.equal(reason);
  });

  describe('rules', () => {
    const chosen = (uri: string, noProxy: string) => {
      const rules = parseProxyRules({ httpProxy: 'http://plain:3128', httpsProxy: 'http://[::1]:8080', noProxy });
      return proxyFor(parseSourceUri(uri).url, rules)?.hostname;
    };

    it('choose by scheme', () => {
      expect(chosen('http://example.com/', '')).to.equal('plain');
      expect(chosen('https://example.com/', '')).to.equal('::1');
      expect(proxyFor(parseSourceUri('http://example.com/').url, undefined)).to.equal(undefined);
      for (const text of ['proxy:3128', 'HTTP://proxy:3128/'])
        expect(parseProxyRules({ httpProxy: text }).http).to.deep.equal({
          hostname: 'proxy',
          port: 3128,
          authorization: undefined,
        });
      expect(proxyFor(parseSourceUri('http://example.com/').url, parseProxyRules({ httpProxy: '' }))).to.equal(undefined);
    });

    const exceptions: [noProxy: string, uri: string, isException: boolean][] = [
      ['*', 'http://example.com/', true],
      ['example.com', 'http://example.com/', true],
      ['example.com', 'http://a.b.example.com/', true],
      ['.example.com', 'http://a.example.com/', true],
      ['*.example.com', 'http://a.example.com/', true],
      ['EXAMPLE.com', 'http://Example.COM/', true],
      ['example.com', 'http://badexample.com/', false],
      ['example.com', 'http://example.com.evil/', false],
      ['x, 10.0.0.0/8', 'http://10.1.2.3/', true],
      ['10.0.0.1', 'http://10.0.0.1/', true],
      ['10.0.0.1', 'http://10.0.0.10/', false],
      ['fd00::/8', 'http://[fd12::1]/', true],
      ['fd00::/8', 'http://10.0.0.1/', false],
      ['nonsense/8', 'http://10.0.0.1/', false],
      ['x example.com', 'http://example.com/', true],
      ['example.com:8080', 'http://example.com:8080/', true],
      ['example.com:8080', 'http://example.com/', false],
      ['10.0.0.0/8:8080', 'http://10.0.0.1:8080/', true],
      ['[fd00::/8]:80', 'http://[fd12::1]/', true],
      ['[fd12::1]', 'http://[fd12::1]/', true],
    ];
    for (const [noProxy, uri, isException] of exceptions) {
      it(`reach ${uri} ${isException ? 'without' : 'with'} a proxy when the exceptions are "${noProxy}"`, () => {
        expect(chosen(uri, noProxy)).to.equal(isException ? undefined : 'plain');
      });
    }

    it('reach a name without a proxy when all its addresses are exceptions', () => {
      const rules = parseProxyRules({ httpProxy: 'http://plain:3128', noProxy: `10.0.0.0/8,${loopbackExceptions}` });
      const proxyOf = (...addresses: string[]) => proxyFor({ ...parseSourceUri('http://name.example/').url, addresses }, rules);
      expect(proxyOf('10.1.1.1', '127.0.0.1')).to.equal(undefined);
      expect(proxyOf('10.1.1.1', '1.1.1.1')).to.have.property('hostname', 'plain');
      expect(proxyOf()).to.have.property('hostname', 'plain');
    });

    for (const text of ['https://proxy:3128', 'socks5://proxy', 'http://proxy/path', 'http://user:SECRET@proxy/?x']) {
      it(`refuse the proxy ${text} without repeating it`, () => {
        expect(() => parseProxyRules({ httpsProxy: text }))
          .to.throw(/^HTTPS_PROXY: must be http:\/\/host:port/)
          .with.property('message')
          .that.does.not.contain('SECRET');
      });
    }
  });
});
