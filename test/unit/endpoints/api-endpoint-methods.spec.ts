import type { EntityManager } from '@mikro-orm/postgresql';
import { expect } from 'chai';
import { apiEndpointMethods } from '../../../src/endpoints/api-endpoint-methods.ts';
import type { Call } from '../../../src/iam/call.ts';
import { expectRefusal, testCall } from '../../support/call.ts';

const noDatabase = undefined as unknown as EntityManager;

describe('ApiEndpointService', () => {
  const methods = apiEndpointMethods({ publicAddress: undefined });
  const call = (overrides: Partial<Call> = {}) =>
    testCall(noDatabase, { subject: undefined, authority: 'obraz.test:8443', ...overrides });

  it('lists every endpoint once, on one page, whatever page is asked for', async () => {
    for (const request of [
      { pageSize: 0n, pageToken: '' },
      { pageSize: 100n, pageToken: '' },
      { pageSize: 1n, pageToken: 'x' },
    ]) {
      const { endpoints, nextPageToken } = await methods.list(request, call());
      expect(nextPageToken).to.equal('');
      const ids = endpoints.map(({ id }) => id);
      expect(new Set(ids).size).to.equal(ids.length);
      expect(ids).to.include.members([
        'endpoint',
        'compute',
        'operation',
        'iam',
        'resource-manager',
        'resourcemanager',
        'vpc',
        'storage',
        'kms',
      ]);
      expect(ids).to.include.members(['storage-api', 'quota-manager']);
      expect(new Set(endpoints.map(({ address }) => address))).to.deep.equal(new Set(['obraz.test:8443']));
    }
  });

  it('finds one endpoint by its id', async () => {
    expect(await methods.get({ apiEndpointId: 'storage' }, call())).to.deep.equal({ id: 'storage', address: 'obraz.test:8443' });
    for (const apiEndpointId of ['', 'lockbox', 'Compute', 'toString']) {
      await expectRefusal(methods.get({ apiEndpointId }, call()), 'NOT_FOUND');
    }
  });

  it('always names a port', async () => {
    const addressFor = async (authority: string, secure: boolean) =>
      (await methods.get({ apiEndpointId: 'iam' }, call({ authority, secure }))).address;
    expect(await addressFor('[::1]:8443', true)).to.equal('[::1]:8443');
    expect(await addressFor('[::1]', true)).to.equal('[::1]:443');
    expect(await addressFor('obraz.test', true)).to.equal('obraz.test:443');
    expect(await addressFor('localhost', false)).to.equal('localhost:80');
  });

  it('answers the public address where one is configured', async () => {
    const configured = apiEndpointMethods({ publicAddress: 'images.example:443' });
    expect((await configured.get({ apiEndpointId: 'iam' }, call())).address).to.equal('images.example:443');
    const { endpoints } = await configured.list({ pageSize: 0n, pageToken: '' }, call());
    expect(endpoints.every(({ address }) => address === 'images.example:443')).to.equal(true);
  });
});
