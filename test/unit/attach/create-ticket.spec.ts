// How long a ticket is good: no longer than the token for which it was given, so that the revocation of one ends the other for ever.
import { expect } from 'chai';
import { CreateTicketRequest } from '../../../generated/obraz/v1/attach.ts';
import { attachMethods } from '../../../src/attach/methods.ts';
import { readTicket } from '../../../src/attach/ticket.ts';
import { checkAccess } from '../../../src/attach/access.ts';
import { Authenticator } from '../../../src/iam/authenticator.ts';
import { ServiceAccount } from '../../../src/iam/service-account.entity.ts';
import { TokenAuthority } from '../../../src/iam/tokens.ts';
import { everybodyMay, expectRefusal, someAccount, testCall } from '../../support/call.ts';
import { ResourcesKit } from '../../support/resources-kit.ts';

const minute = 60_000;

describe('A ticket', () => {
  let kit: ResourcesKit;
  let resourceId: string;
  let aheadMs = 0;
  let authority: TokenAuthority;

  before(async () => {
    kit = await ResourcesKit.open();
    ({ id: resourceId } = await kit.createDisk());
    const em = kit.fork();
    const account = { folderId: kit.folderId, createdAt: new Date(), name: 'some', description: '', labels: {} };
    em.create(ServiceAccount, { ...account, id: someAccount.id, status: 'ACTIVE' });
    await em.flush();
    authority = await TokenAuthority.open({ forkEm: kit.fork, pollIntervalMs: 3_600_000, now: () => Date.now() + aheadMs });
  });

  after(async () => {
    await authority?.[Symbol.asyncDispose]();
    await kit?.[Symbol.asyncDispose]();
  });

  const ticketFor = async (token: string, seconds: number, authenticator = new Authenticator(authority, undefined)) => {
    const request = CreateTicketRequest.fromPartial({ resourceId, lifetime: { seconds: BigInt(seconds) } });
    const call = testCall(kit.fork(), { subject: await authority.verify(token) });
    return attachMethods({ authority, authenticator, uris: () => [] }).createTicket(request, call);
  };

  it('ends when it was asked to, or with its token', async () => {
    const { token, expiresAt } = authority.issue(someAccount, 10 * minute);
    expect((await ticketFor(token, 3600)).expiresAt).to.deep.equal(expiresAt);
    const short = (await ticketFor(token, 60)).expiresAt!;
    expect(short.getTime()).to.be.within(Date.now() + minute - 10_000, Date.now() + minute);
    const ends = { expiryOf: () => Date.now() - 1 } as unknown as Authenticator;
    await expectRefusal(ticketFor(token, 60, ends), 'UNAUTHENTICATED');
  });

  it('of a token that was revoked does not work again when the revocation is forgotten', async () => {
    const { token, expiresAt } = authority.issue(someAccount, 10 * minute);
    const { ticket } = await ticketFor(token, 3600);
    const opens = async (atMs: number): Promise<boolean> => {
      const claims = readTicket(ticket, authority, atMs);
      if (claims === undefined) return false;
      return checkAccess({ em: kit.fork(), rules: everybodyMay }, claims).then(
        () => true,
        () => false,
      );
    };
    expect(await opens(Date.now())).to.equal(true);
    await authority.revoke(authority.read(token));
    expect(await opens(Date.now())).to.equal(false);
    // Past the token's end, when its row could have gone.
    aheadMs = 15 * minute;
    await authority.refresh();
    for (const atMs of [expiresAt.getTime() - 1, expiresAt.getTime(), Date.now() + aheadMs]) {
      expect(await opens(atMs), new Date(atMs).toISOString()).to.equal(false);
    }
    aheadMs = 0;
  });
});
