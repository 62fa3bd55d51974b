// Tokens of an external OpenID Connect provider: which count, and what strangers can make of them.
import { createHmac, generateKeyPairSync } from 'node:crypto';
import { expect } from 'chai';
import { type JWTPayload, UnsecuredJWT } from 'jose';
import { Authenticator } from '../../../../src/iam/authenticator.ts';
import { ExternalTokens, type ExternalTokensOptions } from '../../../../src/iam/external/external-tokens.ts';
import { isProviderUrl } from '../../../../src/iam/external/provider-url.ts';
import { iamTokenMethods } from '../../../../src/iam/iam-token-service/iam-token-methods.ts';
import { TokenAuthority } from '../../../../src/iam/tokens.ts';
import { TransientError } from '../../../../src/platform/errors.ts';
import { expectRefusal } from '../../../support/call.ts';
import { IdentityKit } from '../../../support/identity-kit.ts';
import { IdentityProvider } from '../../../support/identity-provider.ts';

const refused = 'Token is invalid or has expired.';
const groups = ['group:organization:bpf1:users'];

describe('ExternalTokens', () => {
  let provider: IdentityProvider;
  const warnings: string[] = [];

  beforeEach(async () => {
    provider = await IdentityProvider.start();
    warnings.length = 0;
  });

  afterEach(() => provider?.[Symbol.asyncDispose]());

  const open = (options: Partial<ExternalTokensOptions> = {}) =>
    new ExternalTokens({
      issuer: provider.issuer,
      audiences: ['obraz', 'obraz-ci'],
      subjectType: 'userAccount',
      groups,
      log: { warn: (_fields, text) => warnings.push(text) },
      ...options,
    });

  const now = () => Math.floor(Date.now() / 1000);

  const expectUnavailable = async (work: Promise<unknown>) => {
    const error = await work.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).to.be.instanceOf(TransientError);
  };

  it('stand for the user that they name, of the configured kind, with the groups of users', async () => {
    const tokens = open({ subjectType: 'federatedUser' });
    const token = await provider.token({ sub: 'alice' });
    const subject = { id: 'alice', type: 'federatedUser', groups };
    expect(tokens.remembered(token)).to.equal(undefined);
    const checked = await tokens.check(token);
    expect(checked.subject).to.deep.equal(subject);
    expect(checked.expiresAtMs).to.be.within(Date.now() + 3590_000, Date.now() + 3600_000);
    expect(tokens.remembered(token)).to.equal(checked.subject);
    const { requests } = provider;
    for (const aud of ['obraz-ci', ['other', 'obraz']]) await tokens.check(await provider.token({ sub: 'alice', aud }));
    expect(provider.requests).to.equal(requests);
  });

  it('are refused with one text, whatever is wrong', async () => {
    const tokens = open();
    const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    const good = await provider.token({ sub: 'alice' });
    const [header, , signature] = good.split('.') as [string, string, string];
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const claims = { iss: provider.issuer, aud: 'obraz', sub: 'alice', exp: now() + 3600 };
    const hmacHead = `${encode({ alg: 'HS256', kid: 'first' })}.${encode(claims)}`;
    const secret = JSON.stringify(provider.publicKey);
    const signed = (payload: JWTPayload, head = {}, key = undefined as typeof stranger | undefined) =>
      provider.token({ sub: 'alice', ...payload }, head, key);
    const bad: Record<string, string | Promise<string>> = {
      'of another issuer': signed({ iss: 'https://elsewhere.example' }),
      'for another audience': signed({ aud: 'another' }),
      'for nobody': signed({ aud: undefined } as never),
      'without a user': signed({ sub: undefined } as never),
      'of a user without a name': signed({ sub: '' }),
      'of a user with a name too long for a binding': signed({ sub: 'a'.repeat(101) }),
      'of a user with spaces in the name': signed({ sub: 'alice smith' }),
      'of a user that is no text': signed({ sub: 7 as never }),
      'of a user that has the name of an account': signed({ sub: 'aje0123456789abcdefg' }),
      'that expired': signed({ iat: now() - 7200, exp: now() - 100 }),
      'without an end': signed({ exp: undefined } as never),
      'not good yet': signed({ nbf: now() + 300 }),
      'signed by a stranger': signed({}, {}, stranger),
      'signed by a stranger under a key that is not there': signed({}, { kid: 'unknown' }, stranger),
      'signed with another algorithm of the same key': signed({}, { alg: 'PS256' }),
      'with the public key as a shared secret': `${hmacHead}.${createHmac('sha256', secret).update(hmacHead).digest('base64url')}`,
      'signed with nothing': new UnsecuredJWT(claims).encode(),
      'with changed claims': `${header}.${encode({ ...claims, sub: 'bob' })}.${signature}`,
      'with its keys in the header': signed({}, { jwk: provider.publicKey as never, jku: `${provider.issuer}/keys` }, stranger),
      'too long': signed({ pad: 'x'.repeat(4000) }),
      'that is none': 'a.b.c',
      'that is empty': '',
    };
    for (const [what, token] of Object.entries(bad)) {
      try {
        await expectRefusal(tokens.check(await token), 'UNAUTHENTICATED', refused);
      } catch (error) {
        throw new Error(`a token ${what}: ${String(error)}`, { cause: error });
      }
    }
    // The discovery document and the keys; unknown keys make nobody ask again so soon.
    expect(provider.requests).to.equal(2);
    expect(warnings).to.deep.equal([]);
  });

  it('are checked again after a few minutes, and when they have expired', async () => {
    let time = Date.now();
    const tokens = open({ now: () => time });
    const token = await provider.token({ sub: 'alice', exp: now() + 600 });
    await tokens.check(token);
    expect(tokens.remembered(token)?.id).to.equal('alice');
    time += 301_000;
    expect(tokens.remembered(token)).to.equal(undefined);
    await tokens.check(token);
    time += 290_000;
    expect(tokens.remembered(token)?.id).to.equal('alice');
    time += 100_000;
    expect(tokens.remembered(token)).to.equal(undefined);
    await expectRefusal(tokens.check(token), 'UNAUTHENTICATED', refused);
  });

  it('count again under keys from a configured address, without discovery', async () => {
    provider.documents.delete('/.well-known/openid-configuration');
    const tokens = open({ jwksUrl: `${provider.issuer}/keys` });
    expect((await tokens.check(await provider.token({ sub: 'alice' }))).subject.id).to.equal('alice');
    expect(provider.requests).to.equal(1);
  });

  it('cannot be checked while the provider does not answer, and it is not asked again at once', async () => {
    const tokens = open();
    const token = await provider.token({ sub: 'alice' });
    provider.documents.delete('/.well-known/openid-configuration');
    for (let attempt = 0; attempt < 5; attempt += 1) await expectUnavailable(tokens.check(token));
    expect(provider.requests).to.equal(1);
    expect(warnings).to.have.length.greaterThan(0);
  });

  const unreadable: [string, (issuer: string) => [path: string, document: object | string | URL]][] = [
    [
      'a discovery document of another issuer',
      () => ['/.well-known/openid-configuration', { issuer: 'x', jwks_uri: 'https://x.example' }],
    ],
    [
      'keys at a place without TLS',
      (issuer) => ['/.well-known/openid-configuration', { issuer, jwks_uri: 'http://keys.example/' }],
    ],
    ['keys that are none', () => ['/keys', { keys: 'none' }]],
    ['keys that are no JSON', () => ['/keys', '<html>']],
    ['keys without end', () => ['/keys', `{"keys":[${'{},'.repeat(100_000)}{}]}`]],
    ['keys elsewhere', (issuer) => ['/keys', new URL(`${issuer}/other`)]],
  ];
  for (const [what, change] of unreadable)
    it(`cannot be checked by ${what}`, async () => {
      provider.documents.set(...change(provider.issuer));
      const tokens = open();
      for (let attempt = 0; attempt < 5; attempt += 1)
        await expectUnavailable(tokens.check(await provider.token({ sub: 'alice' })));
      expect(provider.requests).to.be.at.most(2);
      expect(warnings).to.have.length.greaterThan(0);
    });
});

describe('A provider', () => {
  it('is reached over TLS, or on this machine', () => {
    for (const url of [
      'https://id.example',
      'https://id.example/realms/a',
      'http://127.0.0.1:8080/a',
      'http://[::1]/',
      'http://localhost',
    ]) {
      expect(isProviderUrl(url), url).to.equal(true);
    }
    for (const url of [
      'http://id.example',
      'ftp://id.example',
      'id.example',
      'https://a:b@id.example',
      'https://id.example/?a',
      'https://id.example/#a',
      '',
    ])
      expect(isProviderUrl(url), url).to.equal(false);
  });
});

describe('Users of an external provider', () => {
  let kit: IdentityKit;
  let provider: IdentityProvider;
  let external: ExternalTokens;
  let authority: TokenAuthority;

  before(async () => {
    kit = await IdentityKit.open();
    provider = await IdentityProvider.start();
    external = new ExternalTokens({ issuer: provider.issuer, audiences: ['obraz'], subjectType: 'userAccount', groups });
    authority = await TokenAuthority.open({ forkEm: kit.fork, userGroups: groups });
  });

  after(async () => {
    await authority?.[Symbol.asyncDispose]();
    await provider?.[Symbol.asyncDispose]();
    await kit?.[Symbol.asyncDispose]();
  });

  const alice = { id: 'alice', type: 'userAccount', groups };

  it('come with their tokens as they are, beside accounts with theirs', async () => {
    const authenticator = new Authenticator(authority, external);
    const token = await provider.token({ sub: 'alice' });
    expect(await authenticator.verify(token)).to.deep.equal(alice);
    expect(authenticator.remembered(token)).to.deep.equal(alice);
    const admin = { id: kit.ids.serviceAccountId, type: 'serviceAccount' };
    expect(await authenticator.verify(authority.issue(admin).token)).to.deep.equal(admin);
    await expectRefusal(new Authenticator(authority, undefined).verify(token), 'UNAUTHENTICATED', refused);
  });

  it('exchange them for tokens of this service, which end no later and can be revoked', async () => {
    const call = (subject?: typeof alice) => kit.call({ subject });
    const methods = iamTokenMethods({ authority, external });
    const exchange = async (exp: number) => {
      const value = await provider.token({ sub: 'alice', exp });
      return methods.create({ identity: { $case: 'yandexPassportOauthToken', value } }, call());
    };
    const seconds = Math.floor(Date.now() / 1000);
    const { iamToken, expiresAt } = await exchange(seconds + 600);
    expect(iamToken).to.match(/^t1\./);
    expect(expiresAt!.getTime()).to.be.within((seconds + 590) * 1000, (seconds + 600) * 1000);
    expect(await authority.verify(iamToken)).to.deep.equal(alice);
    await authority.refresh();
    expect(authority.remembered(iamToken)).to.deep.equal(alice);
    expect((await exchange(seconds + 90_000)).expiresAt!.getTime()).to.be.at.most((seconds + 12 * 3600 + 60) * 1000);
    // Where there is no provider they count no more.
    await expectRefusal(kit.authority.verify(iamToken), 'UNAUTHENTICATED', refused);
    await methods.revoke({ iamToken }, call(alice));
    await expectRefusal(authority.verify(iamToken), 'UNAUTHENTICATED', refused);
    const forged = { identity: { $case: 'yandexPassportOauthToken', value: 'y0_x' } } as const;
    await expectRefusal(methods.create(forged, call()), 'UNAUTHENTICATED', refused);
  });
});
