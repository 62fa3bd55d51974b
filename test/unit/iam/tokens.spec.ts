import { createPrivateKey } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { expect } from 'chai';
import { createOrm } from '../../../src/db/orm.ts';
import { RevokedToken, RevokedTokenSchema } from '../../../src/iam/revoked-token.entity.ts';
import { ServerSecret, ServerSecretSchema } from '../../../src/iam/server-secret.entity.ts';
import { ServiceAccount, ServiceAccountSchema } from '../../../src/iam/service-account.entity.ts';
import { addSigningKey } from '../../../src/iam/signing-keys.ts';
import { writeToken } from '../../../src/iam/token-format.ts';
import { maxTokenLifetimeMs, TokenAuthority, type TokenAuthorityOptions } from '../../../src/iam/tokens.ts';
import { TransientError } from '../../../src/platform/errors.ts';
import { expectRefusal, someAccount } from '../../support/call.ts';
import { testOrm, type TestOrm } from '../../support/test-orm.ts';

const schemas = [ServiceAccountSchema, ServerSecretSchema, RevokedTokenSchema];

const refused = 'Token is invalid or has expired.';

describe('TokenAuthority', () => {
  let database: TestOrm;
  const opened: TokenAuthority[] = [];
  const forkEm = (): EntityManager => database.orm.em.fork();

  async function open(options: Partial<TokenAuthorityOptions> = {}): Promise<TokenAuthority> {
    // Tests poll when they say so.
    const authority = await TokenAuthority.open({ forkEm, pollIntervalMs: 3_600_000, ...options });
    opened.push(authority);
    return authority;
  }

  const addAccount = async (id: string) => {
    const em = forkEm();
    em.create(ServiceAccount, {
      id,
      folderId: 'b1g',
      createdAt: new Date(),
      name: id,
      description: '',
      labels: {},
      status: 'ACTIVE',
    });
    await em.flush();
    return { id, type: 'serviceAccount' };
  };

  before(async () => {
    database = await testOrm(schemas);
    await addAccount(someAccount.id);
  });

  afterEach(async () => {
    await Promise.all(opened.splice(0).map((authority) => authority[Symbol.asyncDispose]()));
  });

  after(() => database?.[Symbol.asyncDispose]());

  it('makes one key however many processes start at once, and each takes the tokens of all others', async () => {
    const authorities = await Promise.all(Array.from({ length: 6 }, () => open()));
    expect(await forkEm().count(ServerSecret)).to.equal(1);
    const tokens = authorities.map((authority) => authority.issue(someAccount).token);
    expect(new Set(tokens).size).to.equal(6);
    for (const authority of authorities) {
      for (const token of tokens) expect(await authority.verify(token)).to.deep.equal(someAccount);
    }
  });

  it('remembers a token that it has checked, and only such a token', async () => {
    const authority = await open();
    const { token } = authority.issue(someAccount);
    expect(authority.remembered(token)).to.equal(undefined);
    await authority.verify(token);
    expect(authority.remembered(token)).to.deep.equal(someAccount);
    expect(authority.remembered(`${token} `)).to.equal(undefined);
  });

  it('issues tokens of at most 12 hours, and refuses them from their end on', async () => {
    let now = Date.now();
    const authority = await open({ now: () => now });
    const { token, expiresAt } = authority.issue(someAccount, 100 * 3600 * 1000);
    expect(expiresAt.getTime()).to.be.within(now + maxTokenLifetimeMs - 1000, now + maxTokenLifetimeMs);
    await authority.verify(token);
    now = expiresAt.getTime() - 1;
    expect(authority.remembered(token)).to.deep.equal(someAccount);
    now = expiresAt.getTime();
    expect(authority.remembered(token)).to.equal(undefined);
    await expectRefusal(authority.verify(token), 'UNAUTHENTICATED', refused);
  });

  it('refuses tokens from the future and tokens with too long a life', async () => {
    const authority = await open();
    const future = await open({ now: () => Date.now() + 300_000 });
    await expectRefusal(authority.verify(future.issue(someAccount).token), 'UNAUTHENTICATED', refused);
    const skewed = await open({ now: () => Date.now() + 30_000 });
    expect(await authority.verify(skewed.issue(someAccount).token)).to.deep.equal(someAccount);
    const { name, value } = await forkEm().findOneOrFail(ServerSecret, { name: { $like: '%/1' } });
    expect(name).to.equal('token-signing-key/1');
    const now = Math.floor(Date.now() / 1000);
    const written = (seconds: number) =>
      writeToken({ id: 'x', keyId: '1', subject: someAccount, issuedAt: now, expiresAt: now + seconds }, createPrivateKey(value));
    expect(await authority.verify(written(12 * 3600))).to.deep.equal(someAccount);
    await expectRefusal(authority.verify(written(13 * 3600)), 'UNAUTHENTICATED', refused);
  });

  it('refuses tokens of another installation, accounts that do not exist, and subjects that are no service accounts', async () => {
    const authority = await open();
    await using other = await testOrm(schemas);
    await using foreign = await TokenAuthority.open({ forkEm: () => other.orm.em.fork() });
    const tokens = [
      foreign.issue(someAccount).token,
      authority.issue({ id: 'ajenobody', type: 'serviceAccount' }).token,
      authority.issue({ id: someAccount.id, type: 'userAccount' }).token,
      '',
      't1..',
      'x'.repeat(1_000_000),
    ];
    for (const token of tokens) await expectRefusal(authority.verify(token), 'UNAUTHENTICATED', refused);
  });

  it('refuses a revoked token at once where it was revoked, and elsewhere after a poll', async () => {
    const [here, there] = [await open(), await open()];
    const { token } = here.issue(someAccount);
    const { token: untouched } = here.issue(someAccount);
    for (const authority of [here, there]) for (const text of [token, untouched]) await authority.verify(text);
    await here.revoke(here.read(token));
    await here.revoke(here.read(token));
    await expectRefusal(here.verify(token), 'UNAUTHENTICATED', refused);
    await there.refresh();
    await expectRefusal(there.verify(token), 'UNAUTHENTICATED', refused);
    const later = await open();
    await expectRefusal(later.verify(token), 'UNAUTHENTICATED', refused);
    for (const authority of [here, there, later]) expect(await authority.verify(untouched)).to.deep.equal(someAccount);
  });

  it('polls by itself', async () => {
    const [here, there] = [await open(), await open({ pollIntervalMs: 10 })];
    const { token } = here.issue(someAccount);
    await there.verify(token);
    await here.revoke(here.read(token));
    while (there.remembered(token) !== undefined) await sleep(5);
    await expectRefusal(there.verify(token), 'UNAUTHENTICATED', refused);
  });

  it('checks what it remembers again when polls have failed for ten seconds', async () => {
    let monotonic = 0;
    const authority = await open({ monotonicNow: () => monotonic });
    const { token } = authority.issue(someAccount);
    await authority.verify(token);
    monotonic = 9_999;
    expect(authority.remembered(token)).to.deep.equal(someAccount);
    monotonic = 10_000;
    expect(authority.remembered(token)).to.equal(undefined);
    expect(await authority.verify(token)).to.deep.equal(someAccount);
    await (await open()).revoke(authority.read(token));
    await expectRefusal(authority.verify(token), 'UNAUTHENTICATED', refused);
    // The poll that works again covers the time without polls.
    monotonic = 3_600_000;
    await authority.refresh();
    expect(authority.remembered(token)).to.equal(undefined);
  });

  it('says that it cannot check, not that the token is bad, when the database does not answer', async () => {
    const broken = await createOrm({ url: 'postgres://nobody@127.0.0.1:1/none', entities: schemas, poolSize: 1 });
    let em = forkEm;
    const authority = await open({ forkEm: () => em() });
    const { token } = authority.issue(someAccount);
    em = () => broken.em.fork();
    const error = await authority.verify(token).catch((reason: unknown) => reason);
    expect(error).to.be.instanceOf(TransientError);
    em = forkEm;
    expect(await authority.verify(token)).to.deep.equal(someAccount);
    await broken.close();
  });

  it('ends the tokens of an account with the account', async () => {
    const authority = await open();
    const account = await addAccount('ajesuspended');
    const { token } = authority.issue(account);
    const { token: other } = authority.issue(someAccount);
    await authority.verify(token);
    await authority.verify(other);
    await forkEm().nativeUpdate(ServiceAccount, { id: account.id }, { status: 'SUSPENDED' });
    await authority.refresh();
    await expectRefusal(authority.verify(token), 'UNAUTHENTICATED', refused);
    expect(authority.remembered(other)).to.deep.equal(someAccount);
  });

  it('does not remember what was checked before an account ended', async () => {
    const account = await addAccount('ajeracing');
    let hold: Promise<void> | undefined;
    const authority = await open({
      forkEm: () => {
        const em = forkEm();
        if (hold === undefined) return em;
        const held = hold;
        const count = em.count.bind(em);
        em.count = (async (...args: Parameters<typeof count>) => {
          const answer = await count(...args);
          await held;
          return answer;
        }) as typeof em.count;
        return em;
      },
    });
    const { token } = authority.issue(account);
    const go = Promise.withResolvers<void>();
    hold = go.promise;
    const before = authority.verify(token);
    hold = undefined;
    await forkEm().nativeUpdate(ServiceAccount, { id: account.id }, { status: 'SUSPENDED' });
    authority.forgetAccount(account.id);
    // Not by the check that is under way: it began before.
    await expectRefusal(authority.verify(token), 'UNAUTHENTICATED', refused);
    go.resolve();
    await before.catch(() => {});
    expect(authority.remembered(token)).to.equal(undefined);
  });

  it('asks the database once for a burst of calls with one new token', async () => {
    let forks = 0;
    const authority = await open({ forkEm: () => ((forks += 1), forkEm()) });
    const { token } = authority.issue(someAccount);
    forks = 0;
    await Promise.all(Array.from({ length: 100 }, () => authority.verify(token)));
    expect(forks).to.equal(1);
  });

  it('asks the database nothing for a forged token', async () => {
    let forks = 0;
    const authority = await open({ forkEm: () => ((forks += 1), forkEm()) });
    const { token } = authority.issue(someAccount);
    forks = 0;
    await expectRefusal(authority.verify(`${token.slice(0, -1)}${token.endsWith('A') ? 'Q' : 'A'}`), 'UNAUTHENTICATED', refused);
    expect(forks).to.equal(0);
  });

  it('forgets revocations of tokens that have expired a day ago, no sooner', async () => {
    const em = forkEm();
    const hoursAgo = (hours: number) => new Date(Date.now() - hours * 3_600_000);
    await em.insert(RevokedToken, { id: 'old', expiresAt: hoursAgo(25), revokedAt: new Date() });
    await em.insert(RevokedToken, { id: 'kept', expiresAt: hoursAgo(23), revokedAt: new Date() });
    const authority = await open();
    await authority.refresh();
    expect(await em.count(RevokedToken, { id: 'old' })).to.equal(0);
    expect(await em.count(RevokedToken, { id: 'kept' })).to.equal(1);
  });

  it('signs with a new key once all processes know it, and goes on taking what the old one signed', async () => {
    let now = Date.now();
    const [here, there] = [await open({ now: () => now }), await open({ now: () => now })];
    const { token: old } = here.issue(someAccount);
    await addSigningKey(forkEm());
    await here.refresh();
    const keyIdOf = (token: string) => here.read(token).keyId;
    expect(keyIdOf(here.issue(someAccount).token)).to.equal('1');
    now += 11_000;
    const { token: fresh } = here.issue(someAccount);
    expect(keyIdOf(fresh)).to.equal('2');
    await there.refresh();
    for (const token of [old, fresh]) expect(await there.verify(token)).to.deep.equal(someAccount);
  });
});
