import { expect } from 'chai';
import { ConfigError, readConfig } from '../../src/config.ts';

describe('readConfig', () => {
  it('has a default for everything', () => {
    const config = readConfig({});
    expect(config.dataDirectory).to.equal('./obraz-data');
    expect(config.grpcAddress).to.equal('127.0.0.1:50051');
    expect(config.tlsAddress).to.equal('127.0.0.1:8443');
    expect(config.httpAddress).to.equal('127.0.0.1:8080');
    expect([...config.roles]).to.deep.equal(['api', 'worker', 'nbd']);
    expect(config.import.publicPorts).to.deep.equal([80, 443]);
    expect(config.keepOperationsMs).to.equal(30 * 24 * 60 * 60 * 1000);
  });

  it('takes an empty value as not set', () => {
    expect(readConfig({ OBRAZ_ROLES: '', DATABASE_URL: '' }).databaseUrl).to.equal(undefined);
  });

  it('names every wrong setting at once', () => {
    expect(() =>
      readConfig({ OBRAZ_GRPC_ADRESS: 'x', OBRAZ_TLS_ADDRESS: '8443', OBRAZ_ROLES: 'api,king', OBRAZ_IMPORT_PORTS: '80,x' }),
    )
      .to.throw(ConfigError)
      .with.property('message')
      .that.matches(/OBRAZ_GRPC_ADRESS.*\n(.*\n)*.*OBRAZ_ROLES|OBRAZ_GRPC_ADRESS/)
      .and.contains('OBRAZ_TLS_ADDRESS')
      .and.contains('OBRAZ_ROLES')
      .and.contains('OBRAZ_IMPORT_PORTS');
  });

  it('keeps operations for as long as their idempotency keys answer, at least', () => {
    const hourMs = 60 * 60 * 1000;
    expect(readConfig({ OBRAZ_KEEP_OPERATIONS_DAYS: '1' }).keepOperationsMs).to.equal(24 * hourMs);
    expect(readConfig({}).keepIdempotencyKeysMs).to.equal(24 * hourMs);
    const week = { OBRAZ_KEEP_OPERATIONS_DAYS: '7', OBRAZ_KEEP_IDEMPOTENCY_KEYS_HOURS: '168' };
    expect(readConfig(week).keepIdempotencyKeysMs).to.equal(168 * hourMs);
    expect(() => readConfig({ ...week, OBRAZ_KEEP_OPERATIONS_DAYS: '6' })).to.throw(
      ConfigError,
      'OBRAZ_KEEP_IDEMPOTENCY_KEYS_HOURS',
    );
    for (const days of ['0', '0.5', '-1', 'x', '36501'])
      expect(() => readConfig({ OBRAZ_KEEP_OPERATIONS_DAYS: days })).to.throw(ConfigError, 'OBRAZ_KEEP_OPERATIONS_DAYS');
  });

  it('leaves names of the tests and of others alone', () => {
    expect(() => readConfig({ OBRAZ_TEST_SEED: '1', HOME: '/x' })).not.to.throw();
  });

  it('reads the proxies under the names that everybody uses, those in lower case first', () => {
    const { proxies } = readConfig({ HTTPS_PROXY: 'upper', https_proxy: 'lower', HTTP_PROXY: 'plain', no_proxy: 'a, b' }).import;
    expect(proxies).to.deep.equal({ httpProxy: 'plain', httpsProxy: 'lower', noProxy: 'a, b' });
    expect(Object.values(readConfig({ HTTPS_PROXY: '' }).import.proxies)).to.deep.equal([undefined, undefined, undefined]);
  });

  it('wants an authority for NBD clients where others can reach the address', () => {
    for (const address of ['127.0.0.1:1', '[::1]:0', 'localhost:1', '127.8.8.8:1'])
      expect(() => readConfig({ OBRAZ_NBD_ADDRESS: address })).not.to.throw();
    for (const address of ['0.0.0.0:1', '[::]:0', '127.example.org:1', '10.0.0.1:1']) {
      expect(() => readConfig({ OBRAZ_NBD_ADDRESS: address })).to.throw(ConfigError, 'OBRAZ_NBD_CLIENT_CA_FILE');
      expect(() => readConfig({ OBRAZ_NBD_ADDRESS: address, OBRAZ_ROLES: 'api' })).not.to.throw();
      expect(() => readConfig({ OBRAZ_NBD_ADDRESS: address, OBRAZ_NBD_CLIENT_CA_FILE: 'a.pem' })).not.to.throw();
    }
  });

  it('wants an audience for the tokens of an identity provider, and reaches that over TLS', () => {
    const issuer = { OBRAZ_OIDC_ISSUER: 'https://id.example/realms/a' };
    expect(readConfig({}).oidc).to.equal(undefined);
    expect(readConfig({ ...issuer, OBRAZ_OIDC_AUDIENCE: 'a, b' }).oidc).to.deep.equal({
      issuer: 'https://id.example/realms/a',
      audiences: ['a', 'b'],
      jwksUrl: undefined,
      subjectType: 'userAccount',
    });
    expect(() => readConfig(issuer)).to.throw(ConfigError, /^OBRAZ_OIDC_AUDIENCE: is needed/);
    expect(() => readConfig({ OBRAZ_OIDC_AUDIENCE: 'a' })).to.throw(ConfigError, /^OBRAZ_OIDC_ISSUER: is needed/);
    expect(() => readConfig({ OBRAZ_OIDC_ISSUER: 'http://id.example', OBRAZ_OIDC_AUDIENCE: 'a' })).to.throw(
      ConfigError,
      /https URL/,
    );
  });

  it('wants a certificate and its key together', () => {
    expect(() => readConfig({ OBRAZ_TLS_CERT_FILE: 'a.pem' })).to.throw(ConfigError, 'set both or neither');
  });

  for (const text of ['[::1]:0', '0.0.0.0:1', 'example.org:65535']) {
    it(`takes ${text} as an address`, () => expect(readConfig({ OBRAZ_HTTP_ADDRESS: text }).httpAddress).to.equal(text));
  }
  for (const text of ['127.0.0.1', ':80', '127.0.0.1:65536', '::1:80:', 'a b:1']) {
    it(`refuses ${JSON.stringify(text)} as an address`, () => {
      expect(() => readConfig({ OBRAZ_HTTP_ADDRESS: text })).to.throw(ConfigError);
    });
  }
});
