import { expect } from 'chai';
import { Folder_Status } from '../../../generated/yandex/cloud/resourcemanager/v1/folder.ts';
import type { BootstrapIds } from '../../../src/iam/bootstrap.ts';
import { Folder } from '../../../src/iam/hierarchy/folder.entity.ts';
import type { Call } from '../../../src/iam/call.ts';
import { expectRefusal } from '../../support/call.ts';
import { IdentityKit } from '../../support/identity-kit.ts';

describe('FolderService and CloudService', () => {
  let kit: IdentityKit;
  let folders: IdentityKit['folders'];
  let clouds: IdentityKit['clouds'];
  let ids: BootstrapIds;

  before(async () => {
    kit = await IdentityKit.open();
    ({ ids, folders, clouds } = kit);
  });

  after(() => kit?.[Symbol.asyncDispose]());

  const call = (overrides: Partial<Call> = {}) =>
    kit.call({ subject: { id: ids.serviceAccountId, type: 'serviceAccount' }, ...overrides });
  const page = { pageSize: 0n, pageToken: '', filter: '' };

  it('show the folder and the cloud of the first start, and the public folder', async () => {
    const folder = await folders.get({ folderId: ids.folderId }, call());
    expect(folder).to.include({ id: ids.folderId, cloudId: ids.cloudId, name: 'default', status: Folder_Status.ACTIVE });
    expect(folder.createdAt).to.be.instanceOf(Date);
    expect(await folders.get({ folderId: 'standard-images' }, call())).to.include({ name: 'standard-images' });
    expect(await clouds.get({ cloudId: ids.cloudId }, call())).to.include({
      name: 'default',
      organizationId: ids.organizationId,
    });
  });

  it('answer NOT_FOUND for what there is not', async () => {
    await expectRefusal(folders.get({ folderId: 'b1gnone' }, call()), 'NOT_FOUND', 'Folder b1gnone not found');
    await expectRefusal(clouds.get({ cloudId: 'b1gnone' }, call()), 'NOT_FOUND', 'Cloud b1gnone not found');
    await expectRefusal(folders.list({ ...page, cloudId: 'b1gnone' }, call()), 'NOT_FOUND', 'Cloud b1gnone not found');
    await expectRefusal(folders.listAccessBindings({ resourceId: 'b1gnone', pageSize: 0n, pageToken: '' }, call()), 'NOT_FOUND');
    await expectRefusal(clouds.listAccessBindings({ resourceId: 'b1gnone', pageSize: 0n, pageToken: '' }, call()), 'NOT_FOUND');
  });

  it('list page by page, filtered by name', async () => {
    const em = kit.fork();
    for (let index = 0; index < 5; index++) {
      em.create(Folder, {
        id: `b1gextra${index}`,
        cloudId: ids.cloudId,
        createdAt: new Date(),
        name: `extra-${index}`,
        description: '',
        labels: { index: String(index) },
        status: 'ACTIVE',
      });
    }
    await em.flush();
    const first = await folders.list({ ...page, cloudId: ids.cloudId, pageSize: 4n }, call());
    expect(first.folders).to.have.length(4);
    const second = await folders.list({ ...page, cloudId: ids.cloudId, pageSize: 4n, pageToken: first.nextPageToken }, call());
    expect(second.nextPageToken).to.equal('');
    const names = [...first.folders, ...second.folders].map(({ name }) => name).sort();
    expect(names).to.deep.equal(['default', 'extra-0', 'extra-1', 'extra-2', 'extra-3', 'extra-4']);
    const filtered = await folders.list({ ...page, cloudId: ids.cloudId, filter: 'name = "extra-3"' }, call());
    expect(filtered.folders.map(({ id, labels }) => [id, labels])).to.deep.equal([['b1gextra3', { index: '3' }]]);
    const other = folders.list({ ...page, cloudId: ids.cloudId, filter: 'name = "x"', pageToken: first.nextPageToken }, call());
    await expectRefusal(other, 'INVALID_ARGUMENT', /^page_token/);
  });

  it('list clouds of every organization or of one', async () => {
    expect((await clouds.list({ ...page, organizationId: '' }, call())).clouds).to.have.length(2);
    expect((await clouds.list({ ...page, organizationId: ids.organizationId }, call())).clouds).to.have.length(2);
    expect((await clouds.list({ ...page, organizationId: 'bpfnone' }, call())).clouds).to.deep.equal([]);
    const named = await clouds.list({ ...page, organizationId: '', filter: 'name="default"' }, call());
    expect(named.clouds.map(({ id }) => id)).to.deep.equal([ids.cloudId]);
  });

  it('list access bindings', async () => {
    const { accessBindings } = await folders.listAccessBindings(
      { resourceId: 'standard-images', pageSize: 0n, pageToken: '' },
      call(),
    );
    expect(accessBindings).to.deep.equal([
      { roleId: 'compute.images.user', subject: { id: 'allAuthenticatedUsers', type: 'system' } },
    ]);
    expect(
      (await clouds.listAccessBindings({ resourceId: ids.cloudId, pageSize: 0n, pageToken: '' }, call())).accessBindings,
    ).to.have.length(1);
  });

  it('refuse callers without a token', async () => {
    const nobody = () => call({ subject: undefined });
    const bindings = { resourceId: ids.cloudId, pageSize: 0n, pageToken: '' };
    const refusals = [
      () => folders.get({ folderId: ids.folderId }, nobody()),
      () => folders.list({ ...page, cloudId: ids.cloudId }, nobody()),
      () => folders.listAccessBindings({ ...bindings, resourceId: ids.folderId }, nobody()),
      () => clouds.get({ cloudId: ids.cloudId }, nobody()),
      () => clouds.list({ ...page, organizationId: '' }, nobody()),
      () => clouds.listAccessBindings(bindings, nobody()),
    ];
    for (const refused of refusals) await expectRefusal(refused(), 'UNAUTHENTICATED', 'Token is invalid or has expired.');
  });
});
