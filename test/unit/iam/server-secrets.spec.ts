import { expect } from 'chai';
import { ServerSecretSchema } from '../../../src/iam/server-secret.entity.ts';
import { readSecrets, serverSecret } from '../../../src/iam/server-secrets.ts';
import { testOrm, type TestOrm } from '../../support/test-orm.ts';

describe('serverSecret', () => {
  let database: TestOrm;

  before(async () => {
    database = await testOrm([ServerSecretSchema]);
  });

  after(() => database?.[Symbol.asyncDispose]());

  const forkEm = () => database.orm.em.fork();

  it('answers one value to all who make it at once', async () => {
    const values = await Promise.all(
      Array.from({ length: 10 }, (_, index) => serverSecret(forkEm(), 'race', () => `value ${index}`)),
    );
    expect(new Set(values).size).to.equal(1);
    expect(await serverSecret(forkEm(), 'race', () => 'another')).to.equal(values[0]);
  });

  it('makes nothing when there is a value', async () => {
    await serverSecret(forkEm(), 'made', () => 'first');
    const made = await serverSecret(forkEm(), 'made', () => {
      throw new Error('made again');
    });
    expect(made).to.equal('first');
  });

  it('takes part in the transaction of its caller', async () => {
    const failed = forkEm().transactional(async (em) => {
      expect(await serverSecret(em, 'rolled-back', () => 'gone')).to.equal('gone');
      throw new Error('later step');
    });
    expect(await failed.catch((error: Error) => error.message)).to.equal('later step');
    expect(await serverSecret(forkEm(), 'rolled-back', () => 'kept')).to.equal('kept');
  });

  it('keeps any text as it is, and finds secrets by the start of their names', async () => {
    const value = `'quote' \\ $1 ? ?? :x\n-----BEGIN-----\nж`;
    await serverSecret(forkEm(), 'group/b', () => value);
    await serverSecret(forkEm(), 'group/a', () => 'a');
    await serverSecret(forkEm(), 'groups', () => 'x');
    const secrets = await readSecrets(forkEm(), 'group/');
    expect(secrets.map(({ name, value: kept }) => [name, kept])).to.deep.equal([
      ['group/a', 'a'],
      ['group/b', value],
    ]);
    expect(Math.abs(secrets[0]!.createdAt.getTime() - Date.now())).to.be.below(3600_000);
  });
});
