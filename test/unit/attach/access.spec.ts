// Who may have an export open: asked again every few seconds, so what ends here ends open sessions.
import { expect } from 'chai';
import { type Access, checkAccesses } from '../../../src/attach/access.ts';
import { ServiceAccount } from '../../../src/iam/service-account.entity.ts';
import { DomainError } from '../../../src/platform/errors.ts';
import { everybodyMay, someAccount } from '../../support/call.ts';
import { ResourcesKit } from '../../support/resources-kit.ts';

describe('Access to an export', () => {
  let kit: ResourcesKit;
  let diskId: string;

  before(async () => {
    kit = await ResourcesKit.open();
    ({ id: diskId } = await kit.createDisk());
    const em = kit.fork();
    const account = { folderId: kit.folderId, createdAt: new Date(), name: 'some', description: '', labels: {} };
    em.create(ServiceAccount, { ...account, id: someAccount.id, status: 'ACTIVE' });
    await em.flush();
  });

  after(() => kit?.[Symbol.asyncDispose]());

  const outcomeFor = async (subject: Access['subject']): Promise<string> => {
    const access: Access = { subject, tokenId: undefined, resourceId: diskId, mode: 'READ_ONLY' };
    const [outcome] = await checkAccesses({ em: kit.fork(), rules: everybodyMay }, [access]);
    return outcome instanceof DomainError ? outcome.code : 'OPEN';
  };

  const minute = 60_000;
  const accounts: [string, Partial<ServiceAccount>, string][] = [
    ['is active', { status: 'ACTIVE', expiresAt: null, suspendedUntil: null }, 'OPEN'],
    ['will expire', { status: 'ACTIVE', expiresAt: new Date(Date.now() + 60 * minute) }, 'OPEN'],
    ['has expired', { status: 'ACTIVE', expiresAt: new Date(Date.now() - minute) }, 'UNAUTHENTICATED'],
    ['is suspended', { status: 'SUSPENDED', expiresAt: null }, 'UNAUTHENTICATED'],
    ['is suspended for a while', { suspendedUntil: new Date(Date.now() + 60 * minute) }, 'UNAUTHENTICATED'],
    ['was suspended until a while ago', { suspendedUntil: new Date(Date.now() - minute) }, 'OPEN'],
  ];
  for (const [what, change, expected] of accounts)
    it(`of an account that ${what}: ${expected}`, async () => {
      await kit.fork().nativeUpdate(ServiceAccount, { id: someAccount.id }, change);
      expect(await outcomeFor(someAccount)).to.equal(expected);
    });

  it('of an account that is not there any more ends; of a user who is kept elsewhere it goes by roles and token', async () => {
    expect(await outcomeFor({ id: 'ajenobody', type: 'serviceAccount' })).to.equal('UNAUTHENTICATED');
    expect(await outcomeFor({ id: 'alice', type: 'userAccount' })).to.equal('OPEN');
  });
});
