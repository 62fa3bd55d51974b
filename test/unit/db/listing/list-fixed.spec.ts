import { expect } from 'chai';
import { pageOf } from '../../../../src/db/listing/list-fixed.ts';
import { diskTypeMethods, zoneMethods } from '../../../../src/catalog/methods.ts';
import type { Call } from '../../../../src/iam/call.ts';
import { expectRefusal, testCall } from '../../../support/call.ts';

const items = ['a', 'b', 'c', 'd', 'e'].map((id) => ({ id }));

describe('lists that stand in the code', () => {
  const call = testCall(undefined as unknown as Call['em']);

  for (const pageSize of [0n, 1n, 2n, 3n, 5n, 1000n]) {
    it(`come whole, each item once, in pages of ${pageSize}`, () => {
      const seen: string[] = [];
      let pageToken = '';
      do {
        const page = pageOf('a method', items, { pageSize, pageToken });
        expect(page.items).not.to.have.length(0);
        seen.push(...page.items.map(({ id }) => id));
        pageToken = page.nextPageToken;
      } while (pageToken !== '');
      expect(seen).to.deep.equal(['a', 'b', 'c', 'd', 'e']);
    });
  }

  it('refuse tokens of other lists and sizes of pages that are none', () => {
    const { nextPageToken } = pageOf('a method', items, { pageSize: 2n, pageToken: '' });
    expect(() => pageOf('another', items, { pageSize: 2n, pageToken: nextPageToken })).to.throw('page_token');
    expect(() => pageOf('a method', items, { pageSize: 2n, pageToken: 'x' })).to.throw('page_token');
    expect(() => pageOf('a method', [], { pageSize: 2n, pageToken: 'x' })).to.throw('page_token');
    expect(() => pageOf('a method', items, { pageSize: 1001n, pageToken: '' })).to.throw('page_size');
    expect(() => pageOf('a method', items, { pageSize: -1n, pageToken: '' })).to.throw('page_size');
  });

  it('are in ascending order, as their pages need', async () => {
    const { zones } = await zoneMethods().list({ pageSize: 0n, pageToken: '' }, call);
    const { diskTypes } = await diskTypeMethods().list({ pageSize: 0n, pageToken: '' }, call);
    for (const ids of [zones.map(({ id }) => id), diskTypes.map(({ id }) => id)]) expect(ids).to.deep.equal(ids.toSorted());
  });

  it('answer one item by id, and NOT_FOUND for others', async () => {
    expect(await zoneMethods().get({ zoneId: 'ru-central1-b' }, call)).to.include({ regionId: 'ru-central1', status: 1 });
    expect((await diskTypeMethods().get({ diskTypeId: 'network-hdd' }, call)).zoneIds).to.include('ru-central1-d');
    await expectRefusal(zoneMethods().get({ zoneId: 'mars' }, call), 'NOT_FOUND', 'Zone mars not found');
    await expectRefusal(diskTypeMethods().get({ diskTypeId: 'x' }, call), 'NOT_FOUND', 'Disk type x not found');
  });

  it('are for those who have a token', async () => {
    const nobody = testCall(undefined as unknown as Call['em'], { subject: undefined });
    const page = { pageSize: 0n, pageToken: '' };
    await expectRefusal(zoneMethods().list(page, nobody), 'UNAUTHENTICATED');
    await expectRefusal(zoneMethods().get({ zoneId: 'ru-central1-a' }, nobody), 'UNAUTHENTICATED');
    await expectRefusal(diskTypeMethods().list(page, nobody), 'UNAUTHENTICATED');
    await expectRefusal(diskTypeMethods().get({ diskTypeId: 'network-hdd' }, nobody), 'UNAUTHENTICATED');
  });
});
