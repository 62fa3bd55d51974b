// Tokens and JSON Web Tokens as attackers make them, against the running service: one answer for all of them. (What each part of a token
// is checked for: unit/iam.)
import { createHmac, createPrivateKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { SignJWT } from 'jose';
import { IamTokenServiceClient } from '../../../generated/yandex/cloud/iam/v1/iam_token_service.ts';
import { CreateKeyRequest, KeyServiceClient } from '../../../generated/yandex/cloud/iam/v1/key_service.ts';
import { createOrm } from '../../../src/db/orm.ts';
import { entities } from '../../../src/entities.ts';
import { maxTokenLifetimeMs, TokenAuthority } from '../../../src/iam/tokens.ts';
import { Accounts, bearer } from '../../support/accounts.ts';
import { unary } from '../../support/client.ts';
import { NbdClient } from '../../support/nbd-client.ts';
import { Obraz } from '../../support/obraz.ts';
import { type TestDatabase, testDatabase } from '../../support/postgres.ts';

const refusal = { code: status.UNAUTHENTICATED, details: 'Token is invalid or has expired.' };
const audience = 'https://iam.api.cloud.yandex.net/iam/v1/tokens';
const hourMs = 3_600_000;

describe('Tokens of attackers', function () {
  this.timeout(120_000);
  let database: TestDatabase;
  let obraz: Obraz;
  let accounts: Accounts;
  let folderId: string;
  let good: string;
  let accountId: string;

  before(async () => {
    database = await testDatabase();
    // Every one of them counts as a failed login.
    obraz = await Obraz.start({
      environment: { DATABASE_URL: database.url, OBRAZ_RATE_FAILED_LOGINS_PER_MINUTE: '1000000' },
    });
    accounts = await Accounts.of(obraz);
    folderId = accounts.admin.folderId;
    const { subject, token, client } = await accounts.account('victim', folderId);
    client[Symbol.dispose]();
    accountId = subject.id;
    good = token;
    await accounts.bind('folder', folderId, 'viewer', subject);
  });

  after(async () => {
    accounts?.[Symbol.dispose]();
    await obraz?.[Symbol.asyncDispose]();
    await database?.dispose();
  });

  const get = (token: string) =>
    unary(accounts.folders, accounts.folders.get, { folderId }, bearer(token)).then(
      () => ({ code: status.OK, details: '' }),
      ({ code, details }: ServiceError) => ({ code, details }),
    );

  /** A token of this service's own keys, made when it was another time. */
  async function issuedAt(nowMs: number, ttlMs?: number): Promise<string> {
    const orm = await createOrm({ url: database.url, entities, poolSize: 2 });
    const authority = await TokenAuthority.open({ forkEm: () => orm.em.fork(), now: () => nowMs });
    try {
      return authority.issue({ id: accountId, type: 'serviceAccount' }, ttlMs).token;
    } finally {
      await authority[Symbol.asyncDispose]();
      await orm.close(true);
    }
  }

  const parts = () => good.split('.') as [string, string, string];
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = (): Record<string, unknown> =>
    JSON.parse(Buffer.from(parts()[1], 'base64url').toString()) as Record<string, unknown>;
  const stranger = generateKeyPairSync('ed25519');

  it('takes the good one', async () => {
    expect(await get(good)).to.deep.equal({ code: status.OK, details: '' });
  });

  const altered: [what: string, make: () => string | Promise<string>][] = [
    ['another subject', () => `t1.${encode({ ...claims(), sub: accounts.admin.folderId })}.${parts()[2]}`],
    ['a later end', () => `t1.${encode({ ...claims(), exp: (claims()['exp'] as number) + 1 })}.${parts()[2]}`],
    ['another type of subject', () => `t1.${encode({ ...claims(), typ: 'userAccount' })}.${parts()[2]}`],
    ['a key that there is not', () => `t1.${encode({ ...claims(), kid: '99' })}.${parts()[2]}`],
    ["a stranger's signature", () => signed({ ...claims() }, stranger.privateKey)],
    [
      "a stranger's key, that the token names itself",
      () => signed({ ...claims(), jwk: stranger.publicKey.export({ format: 'jwk' }) }, stranger.privateKey),
    ],
    ['no signature', () => `t1.${parts()[1]}.`],
    ['a signature of zeros', () => `t1.${parts()[1]}.${Buffer.alloc(64).toString('base64url')}`],
    ['algorithm none', () => `${encode({ alg: 'none', typ: 'JWT' })}.${parts()[1]}.`],
    ['HS256 with the public key for a secret', () => hmacSigned()],
    ['another kind of signed text: a ticket', () => ticketOf()],
    ['an earlier time, so that it has expired', () => issuedAt(Date.now() - maxTokenLifetimeMs - hourMs)],
    ['a later time, so that it is not good yet', () => issuedAt(Date.now() + hourMs)],
    ['nothing in it', () => ''],
    ['nine thousand characters', () => 'x'.repeat(9_000)],
  ];

  const signed = (content: object, key: KeyObject): string => {
    const text = `t1.${encode(content)}`;
    return `${text}.${sign(null, Buffer.from(text), key).toString('base64url')}`;
  };

  function hmacSigned(): string {
    const text = `${encode({ alg: 'HS256', typ: 'JWT' })}.${parts()[1]}`;
    const secret = stranger.publicKey.export({ type: 'spki', format: 'pem' });
    return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
  }

  async function ticketOf(): Promise<string> {
    const disk = await accounts.admin.disk();
    return (await accounts.admin.createTicket(disk.id)).ticket;
  }

  for (const [what, make] of altered) {
    it(`refuses a token with ${what}`, async () => {
      expect(await get(await make())).to.deep.equal(refusal);
    });
  }

  it('cuts a header of a megabyte off, and serves on', async () => {
    const { code } = await get('x'.repeat(1024 * 1024));
    expect(code).not.to.equal(status.OK);
    expect((await get(good)).code).to.equal(status.OK);
  });

  it('takes a token for no ticket, and an altered ticket for none', async () => {
    const disk = await accounts.admin.disk();
    const { ticket } = await accounts.admin.createTicket(disk.id);
    const address = (await obraz.bootstrap()).addresses.nbd!;
    const [, text, signature] = ticket.split('.') as [string, string, string];
    const other = { ...(JSON.parse(Buffer.from(text, 'base64url').toString()) as object), rw: false };
    for (const name of [good, `nbd1.${encode(other)}.${signature}`, `nbd1.${text}.`, `t1.${text}.${signature}`, disk.id]) {
      const error = await NbdClient.opened(address, name).then(
        () => undefined,
        (thrown: Error) => thrown,
      );
      expect(error?.message, name).to.match(/^GO was refused/);
    }
    (await NbdClient.opened(address, ticket))[Symbol.dispose]();
  });

  it('takes no JSON Web Token any more of a key that was deleted, and none that was signed by another or in another way', async () => {
    const keys = new KeyServiceClient(accounts.admin.address, credentials.createInsecure());
    const tokens = new IamTokenServiceClient(accounts.admin.address, credentials.createInsecure());
    const request = CreateKeyRequest.fromPartial({ serviceAccountId: accountId });
    const { key, privateKey: pem } = await unary(keys, keys.create, request, accounts.admin.metadata);
    const privateKey = createPrivateKey(pem.slice(pem.indexOf('-----BEGIN')));
    const now = Math.floor(Date.now() / 1000);
    const jwt = (by: KeyObject, { alg = 'PS256', kid = key!.id, iss = accountId, iat = now, exp = now + 3600 } = {}) =>
      new SignJWT({ iss, aud: audience, iat, exp }).setProtectedHeader({ typ: 'JWT', alg, kid }).sign(by);
    const exchange = (value: string) =>
      unary(tokens, tokens.create, { identity: { $case: 'jwt', value } }, new Metadata()).then(
        ({ iamToken }) => ({ code: status.OK, details: iamToken }),
        ({ code, details }: ServiceError) => ({ code, details }),
      );
    const goodJwt = await jwt(privateKey);
    const exchanged = await exchange(goodJwt);
    expect(exchanged.code).to.equal(status.OK);
    expect((await get(exchanged.details)).code).to.equal(status.OK);
    const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    const [header, payload, signature] = goodJwt.split('.') as [string, string, string];
    for (const bad of [
      await jwt(other),
      await jwt(privateKey, { alg: 'RS256' }),
      await jwt(privateKey, { kid: 'ajenokey000000000000' }),
      await jwt(privateKey, { iss: accounts.admin.folderId }),
      await jwt(privateKey, { iat: now - 7200, exp: now - 3600 }),
      await jwt(privateKey, { iat: now + 3600, exp: now + 7200 }),
      await jwt(privateKey, { exp: now + 100_000 }),
      `${encode({ typ: 'JWT', alg: 'none', kid: key!.id })}.${payload}.`,
      `${header}.${encode({ iss: accounts.admin.folderId, aud: audience, iat: now, exp: now + 3600 })}.${signature}`,
      `${header}.${payload}.`,
      good,
    ]) {
      expect(await exchange(bad), bad).to.deep.equal(refusal);
    }
    await accounts.admin.response(await unary(keys, keys.delete, { keyId: key!.id }, accounts.admin.metadata));
    expect(await exchange(goodJwt)).to.deep.equal(refusal);
    keys.close();
    tokens.close();
  });

  it('takes no token of an account that is gone, though it has not expired', async () => {
    const { subject, token, client } = await accounts.account('leaves', folderId);
    client[Symbol.dispose]();
    await accounts.bind('folder', folderId, 'viewer', subject);
    expect((await get(token)).code).to.equal(status.OK);
    const deleted = unary(accounts.accounts, accounts.accounts.delete, { serviceAccountId: subject.id }, accounts.admin.metadata);
    await accounts.admin.response(await deleted);
    const deadline = Date.now() + 20_000;
    // Its roles are gone at once, the token within seconds.
    for (let answer = await get(token); answer.code !== status.UNAUTHENTICATED; answer = await get(token)) {
      expect(answer.code).to.equal(status.NOT_FOUND);
      expect(Date.now(), 'it ends within seconds').to.be.lessThan(deadline);
    }
    expect(await get(token)).to.deep.equal(refusal);
  });
});
