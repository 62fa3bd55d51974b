import { createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { expect } from 'chai';
import { type JWTHeaderParameters, type JWTPayload, SignJWT, UnsecuredJWT } from 'jose';
import { AuthorizedKey, AuthorizedKeySchema } from '../../../src/iam/authorized-key.entity.ts';
import type { AccessRules } from '../../../src/iam/access-control.ts';
import { iamTokenMethods } from '../../../src/iam/iam-token-service/iam-token-methods.ts';
import { RevokedTokenSchema } from '../../../src/iam/revoked-token.entity.ts';
import { ServerSecretSchema } from '../../../src/iam/server-secret.entity.ts';
import { ServiceAccount, ServiceAccountSchema } from '../../../src/iam/service-account.entity.ts';
import { TokenAuthority } from '../../../src/iam/tokens.ts';
import { Metrics } from '../../../src/platform/metrics.ts';
import { RateLimits } from '../../../src/transport/rate-limits.ts';
import { everybodyMay, expectRefusal, testCall } from '../../support/call.ts';
import { testOrm, type TestOrm } from '../../support/test-orm.ts';

const refused = 'Token is invalid or has expired.';
const keyId = 'ajekey00000000000000';
const account = { id: 'ajeaccount0000000000', type: 'serviceAccount' };
const other = { id: 'ajeother000000000000', type: 'serviceAccount' };
const suspended = { id: 'ajesuspended00000000', type: 'serviceAccount' };
const audience = 'https://iam.api.cloud.yandex.net/iam/v1/tokens';

describe('IamTokenService', () => {
  const pair = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const publicPem = pair.publicKey.export({ type: 'spki', format: 'pem' }) as string;
  let database: TestOrm;
  let authority: TokenAuthority;
  let methods: ReturnType<typeof iamTokenMethods>;

  before(async () => {
    database = await testOrm([ServiceAccountSchema, ServerSecretSchema, RevokedTokenSchema, AuthorizedKeySchema]);
    const em = database.orm.em.fork();
    const createdAt = new Date();
    for (const { id } of [account, other, suspended]) {
      const status = id === suspended.id ? 'SUSPENDED' : 'ACTIVE';
      em.create(ServiceAccount, { id, folderId: 'b1g', createdAt, name: id, description: '', labels: {}, status });
    }
    const key = { createdAt, description: '', keyAlgorithm: 'RSA_2048', publicKey: publicPem } as const;
    em.create(AuthorizedKey, { ...key, id: keyId, serviceAccountId: account.id });
    em.create(AuthorizedKey, { ...key, id: 'ajekeysuspended00000', serviceAccountId: suspended.id });
    await em.flush();
    authority = await TokenAuthority.open({ forkEm: () => database.orm.em.fork() });
    methods = iamTokenMethods({ authority });
  });

  after(async () => {
    await authority?.[Symbol.asyncDispose]();
    await database?.[Symbol.asyncDispose]();
  });

  const someone = { id: 'someone', type: 'userAccount' };
  const accountsMay: AccessRules = { ...everybodyMay, isAllowed: ({ type }) => type === 'serviceAccount' };
  const call = (subject: typeof account | undefined) => testCall(database.orm.em.fork(), { subject, access: accountsMay });

  const exchange = (jwt: string) => methods.create({ identity: { $case: 'jwt', value: jwt } }, call(undefined));

  const now = () => Math.floor(Date.now() / 1000);

  const makeJwt = (
    payload: JWTPayload = {},
    header: Partial<JWTHeaderParameters> = {},
    key: KeyObject = pair.privateKey,
  ): Promise<string> =>
    new SignJWT({ iss: account.id, aud: audience, iat: now(), exp: now() + 3600, ...payload })
      .setProtectedHeader({ typ: 'JWT', alg: 'PS256', kid: keyId, ...header })
      .sign(key);

  it('gives a token for a JWT of an authorized key, whatever its audience', async () => {
    for (const aud of [audience, [audience], 'https://iam.localhost:8443/iam/v1/tokens', ['a', 'b'], undefined]) {
      const { iamToken, expiresAt } = await exchange(await makeJwt({ aud } as JWTPayload));
      expect(await authority.verify(iamToken)).to.deep.equal(account);
      expect(expiresAt!.getTime()).to.be.within(Date.now() + 11.9 * 3600_000, Date.now() + 12 * 3600_000);
    }
  });

  it('asks the limits of whoever has proved who it is, and gives no token over them', async () => {
    const metrics = new Metrics();
    const off = { subjectChangesPerSecond: 0, addressCallsPerSecond: 0, failedAuthenticationsPerMinute: 0 };
    const limits = new RateLimits({ ...off, subjectCallsPerSecond: 0.4 }, metrics, () => 1e6);
    const limited = iamTokenMethods({ authority, limits });
    const sign = async (): Promise<unknown> =>
      limited.create({ identity: { $case: 'jwt', value: await makeJwt() } }, call(undefined));
    await sign();
    await sign();
    await expectRefusal(sign(), 'RESOURCE_EXHAUSTED', /^Too many calls of ajeaccount/);
    expect(() => limits.admitSubject(account.id)).to.throw('Too many calls');
    limits.admitSubject(other.id);
  });

  it('bears clocks that differ by less than a minute', async () => {
    await exchange(await makeJwt({ iat: now() + 30, exp: now() + 3630 }));
    await exchange(await makeJwt({ iat: now() - 3630, exp: now() - 30 }));
  });

  it('refuses every other JWT with one text', async () => {
    const good = await makeJwt();
    const [header, payload, signature] = good.split('.') as [string, string, string];
    const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const hmacHead = `${base64url({ alg: 'HS256', kid: keyId })}.${payload}`;
    const bad: Record<string, string | Promise<string>> = {
      'of an unknown key': makeJwt({}, { kid: 'ajeunknown0000000000' }),
      'without a key id': makeJwt({}, { kid: undefined as never }),
      'with a key id that no database takes': makeJwt({}, { kid: 'a\0b' }),
      'signed by a stranger': makeJwt({}, {}, stranger.privateKey),
      'of another issuer': makeJwt({ iss: other.id }),
      'without an issuer': makeJwt({ iss: undefined } as never),
      'of a suspended account': makeJwt({ iss: suspended.id }, { kid: 'ajekeysuspended00000' }),
      'that expired': makeJwt({ iat: now() - 3700, exp: now() - 100 }),
      'from the future': makeJwt({ iat: now() + 300, exp: now() + 3600 }),
      'not good yet': makeJwt({ nbf: now() + 300 }),
      'with more than an hour to live': makeJwt({ exp: now() + 3700 }),
      'that ends before it begins': makeJwt({ iat: now() + 50, exp: now() + 40 }),
      'without an end': makeJwt({ exp: undefined } as never),
      'without a beginning': makeJwt({ iat: undefined } as never),
      'with times that are no numbers': makeJwt({ iat: '1' as never }),
      'signed with RS256': makeJwt({}, { alg: 'RS256' }),
      'signed with PS512': makeJwt({}, { alg: 'PS512' }),
      'signed with nothing': new UnsecuredJWT({ iss: account.id, iat: now(), exp: now() + 3600 }).encode(),
      'signed with the public key as a shared secret': `${hmacHead}.${createHmac('sha256', publicPem).update(hmacHead).digest('base64url')}`,
      'with changed claims': `${header}.${base64url({ iss: other.id, iat: now(), exp: now() + 3600 })}.${signature}`,
      'with a changed header': `${base64url({ alg: 'PS256', kid: keyId, x: 1 })}.${payload}.${signature}`,
      'with a cut signature': good.slice(0, -4),
      'with unknown critical parameters': makeJwt({}, { crit: ['x'], x: 1 }).catch(
        () => `${base64url({ alg: 'PS256', kid: keyId, crit: ['x'], x: 1 })}.${payload}.${signature}`,
      ),
      'too long': makeJwt({ pad: 'x'.repeat(8000) }),
      'that is no JWT': 'a.b.c',
      'of five parts': 'a.b.c.d.e',
    };
    for (const [what, jwt] of Object.entries(bad)) {
      try {
        await expectRefusal(exchange(await jwt), 'UNAUTHENTICATED', refused);
      } catch (error) {
        throw new Error(`a JWT ${what}: ${String(error)}`, { cause: error });
      }
    }
  });

  it('stops taking the JWT of a key that was deleted', async () => {
    const em = database.orm.em.fork();
    const id = 'ajekeydeleted0000000';
    const key = em.create(AuthorizedKey, {
      id,
      serviceAccountId: account.id,
      createdAt: new Date(),
      description: '',
      keyAlgorithm: 'RSA_2048',
      publicKey: stranger.publicKey.export({ type: 'spki', format: 'pem' }) as string,
    });
    await em.flush();
    const jwt = await makeJwt({}, { kid: id }, stranger.privateKey);
    await exchange(jwt);
    await em.remove(key).flush();
    await expectRefusal(exchange(jwt), 'UNAUTHENTICATED', refused);
  });

  it('says that Yandex accounts cannot sign in, and that an identity is needed', async () => {
    const oauth = { identity: { $case: 'yandexPassportOauthToken', value: 'y0_x' } } as const;
    await expectRefusal(methods.create(oauth, call(undefined)), 'UNAUTHENTICATED', /^OAuth tokens .* service account/);
    await expectRefusal(methods.create({ identity: undefined }, call(undefined)), 'INVALID_ARGUMENT', /^identity: /);
  });

  it('gives a caller a token of an account, and says which account cannot have one', async () => {
    const create = (serviceAccountId: string, subject: typeof account | undefined = account) =>
      methods.createForServiceAccount({ serviceAccountId }, call(subject));
    for (const wanted of [account, other]) {
      const { iamToken, expiresAt } = await create(wanted.id);
      expect(await authority.verify(iamToken)).to.deep.equal(wanted);
      expect(expiresAt).to.be.instanceOf(Date);
    }
    await expectRefusal(
      methods.createForServiceAccount({ serviceAccountId: account.id }, call(undefined)),
      'UNAUTHENTICATED',
      refused,
    );
    await expectRefusal(create('ajenobody'), 'NOT_FOUND', /ajenobody not found/);
    await expectRefusal(create(suspended.id), 'FAILED_PRECONDITION', /SUSPENDED/);
    await expectRefusal(create(other.id, someone), 'NOT_FOUND', `Service account ${other.id} not found`);
  });

  it('revokes tokens, again and again, and says whose they were', async () => {
    const { token } = authority.issue(account);
    await authority.verify(token);
    for (const caller of [account, other]) {
      expect(await methods.revoke({ iamToken: token }, call(caller))).to.deep.equal({ subjectId: account.id });
    }
    await expectRefusal(authority.verify(token), 'UNAUTHENTICATED', refused);
    await expectRefusal(
      methods.revoke({ iamToken: 't1.x' }, call(account)),
      'INVALID_ARGUMENT',
      'iam_token: is invalid or has expired',
    );
    await expectRefusal(methods.revoke({ iamToken: token }, call(undefined)), 'UNAUTHENTICATED', refused);
    await expectRefusal(methods.revoke({ iamToken: token }, call(someone)), 'NOT_FOUND');
  });
});
