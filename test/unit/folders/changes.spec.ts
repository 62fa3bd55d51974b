// What changes folders and clouds: rules, races, and what is left when they go.
import { expect } from 'chai';
import { AccessBindingAction } from '../../../generated/yandex/cloud/access/access.ts';
import type { Operation as OperationMessage } from '../../../generated/yandex/cloud/operation/operation.ts';
import { Cloud as CloudMessage } from '../../../generated/yandex/cloud/resourcemanager/v1/cloud.ts';
import {
  DeleteCloudRequest,
  UpdateCloudMetadata,
  UpdateCloudRequest,
} from '../../../generated/yandex/cloud/resourcemanager/v1/cloud_service.ts';
import { Folder as FolderMessage } from '../../../generated/yandex/cloud/resourcemanager/v1/folder.ts';
import {
  CreateFolderMetadata,
  CreateFolderRequest,
  DeleteFolderRequest,
  UpdateFolderRequest,
} from '../../../generated/yandex/cloud/resourcemanager/v1/folder_service.ts';
import { query } from '../../../src/db/bound-query.ts';
import { entities } from '../../../src/entities.ts';
import { folderContents } from '../../../src/folders/contents.ts';
import { foldersQuota } from '../../../src/folders/folder-quota.ts';
import { holdFolder } from '../../../src/folders/hold-folder.ts';
import { AccessBinding } from '../../../src/iam/access-binding.entity.ts';
import { Cloud } from '../../../src/iam/hierarchy/cloud.entity.ts';
import { Folder } from '../../../src/iam/hierarchy/folder.entity.ts';
import { ServiceAccount } from '../../../src/iam/service-account.entity.ts';
import { Operation } from '../../../src/operations/operation.entity.ts';
import { newId } from '../../../src/platform/ids.ts';
import { setLimit } from '../../../src/quotas/limits.ts';
import { QuotaLimit } from '../../../src/quotas/quota-limit.entity.ts';
import { expectRefusal, someAccount } from '../../support/call.ts';
import { IdentityKit } from '../../support/identity-kit.ts';
import { untilWaiting } from '../../support/until-waiting.ts';

const page = { pageSize: 0n, pageToken: '' };

describe('Changes of folders and clouds', () => {
  let kit: IdentityKit;
  let systemCloudId: string;

  before(async () => {
    kit = await IdentityKit.open();
    systemCloudId = (await kit.fork().findOneOrFail(Cloud, { system: true })).id;
  });

  after(() => kit?.[Symbol.asyncDispose]());

  const updateFolder = (request: Partial<UpdateFolderRequest>) =>
    kit.folders.update(UpdateFolderRequest.fromPartial(request), kit.call());
  const updateCloud = (request: Partial<UpdateCloudRequest>) =>
    kit.clouds.update(UpdateCloudRequest.fromPartial(request), kit.call());
  const deleteFolder = (folderId: string, request: Partial<DeleteFolderRequest> = {}) =>
    kit.folders.delete(DeleteFolderRequest.fromPartial({ folderId, ...request }), kit.call());
  const deleteCloud = (cloudId: string, request: Partial<DeleteCloudRequest> = {}) =>
    kit.clouds.delete(DeleteCloudRequest.fromPartial({ cloudId, ...request }), kit.call());

  const responseOf = (operation: OperationMessage) => {
    expect(operation.done).to.equal(true);
    if (operation.result?.$case !== 'response') throw new Error('the operation has no response');
    return operation.result.value;
  };

  describe('Create folder', () => {
    it('answers an operation that is done, with the folder, which is then there and empty', async () => {
      const operation = await kit.folders.create(
        CreateFolderRequest.fromPartial({ cloudId: kit.ids.cloudId, name: 'made', description: 'd', labels: { a: 'b' } }),
        kit.call(),
      );
      const { folderId } = CreateFolderMetadata.decode(operation.metadata!.value);
      expect(operation).to.include({ description: 'Create folder', createdBy: someAccount.id });
      const folder = FolderMessage.decode(responseOf(operation).value);
      expect(folder).to.deep.equal(await kit.folders.get({ folderId }, kit.call()));
      expect(folder).to.include({ cloudId: kit.ids.cloudId, name: 'made', description: 'd' });
      expect(folder.labels).to.deep.equal({ a: 'b' });
      const { operations } = await kit.folders.listOperations({ folderId, ...page }, kit.call());
      expect(operations.map(({ id }) => id)).to.deep.equal([operation.id]);
      expect((await kit.folders.listAccessBindings({ resourceId: folderId, ...page }, kit.call())).accessBindings).to.deep.equal(
        [],
      );
    });

    it('is answered once under one idempotency key', async () => {
      const idempotent = () => kit.call({ idempotencyKey: 'once', method: 'folders.create' });
      const [first, second] = [
        await kit.createFolder('once', {}, idempotent()),
        await kit.createFolder('once', {}, idempotent()),
      ];
      expect(second).to.equal(first);
    });

    it('keeps names unique in a cloud, also in a race, and takes them again in another cloud', async () => {
      const attempts = await Promise.allSettled(Array.from({ length: 8 }, () => kit.createFolder('raced')));
      expect(attempts.filter(({ status }) => status === 'fulfilled')).to.have.length(1);
      await expectRefusal(
        kit.createFolder('raced'),
        'ALREADY_EXISTS',
        `Folder with name "raced" already exists in cloud ${kit.ids.cloudId}`,
      );
      await kit.createFolder('raced', { cloudId: await kit.createCloud('another') });
    });

    it('stops at the limit of the cloud, also in a race', async () => {
      const cloudId = await kit.createCloud('limited');
      await setLimit(kit.fork(), foldersQuota, cloudId, 3);
      const attempts = await Promise.allSettled(Array.from({ length: 8 }, (_, n) => kit.createFolder(`f${n}`, { cloudId })));
      expect(attempts.filter(({ status }) => status === 'fulfilled')).to.have.length(3);
      const message = 'Limit resource-manager.folders.count exceeded';
      const { details } = await expectRefusal(kit.createFolder('more', { cloudId }), 'RESOURCE_EXHAUSTED', message);
      const violation = { metric: foldersQuota.id, limit: 3, usage: 3, required: 4 };
      expect(details).to.deep.equal([{ kind: 'quotaFailure', cloudId, violations: [violation] }]);
    });

    it('needs a cloud that is there', () => expectRefusal(kit.createFolder('x', { cloudId: 'b1gnone' }), 'NOT_FOUND'));
  });

  describe('Update', () => {
    it('changes what the mask names, and all of it without one', async () => {
      const folderId = await kit.createFolder('updated', { description: 'old', labels: { old: '1' } });
      const described = await updateFolder({ folderId, description: 'new', name: 'ignored', updateMask: ['description'] });
      expect(FolderMessage.decode(responseOf(described).value)).to.include({ name: 'updated', description: 'new' });
      await updateFolder({ folderId, name: 'updated-2' });
      const folder = await kit.folders.get({ folderId }, kit.call());
      expect(folder).to.include({ name: 'updated-2', description: '' });
      expect(folder.labels).to.deep.equal({});
      const cloudId = await kit.createCloud('updated-cloud');
      const operation = await updateCloud({ cloudId, labels: { a: '1' }, updateMask: ['labels'] });
      expect(UpdateCloudMetadata.decode(operation.metadata!.value)).to.deep.equal({ cloudId });
      expect(CloudMessage.decode(responseOf(operation).value)).to.deep.include({ name: 'updated-cloud', labels: { a: '1' } });
      expect((await kit.clouds.listOperations({ cloudId, ...page }, kit.call())).operations).to.have.length(2);
    });

    it('refuses a name in use, no name, a field that is not there, and what belongs to everybody', async () => {
      const folderId = await kit.createFolder('named');
      await expectRefusal(updateFolder({ folderId, name: 'default', updateMask: ['name'] }), 'ALREADY_EXISTS');
      await updateFolder({ folderId, name: 'named', updateMask: ['name'] });
      for (const updateMask of [['name'], undefined]) {
        await expectRefusal(updateFolder({ folderId, updateMask }), 'INVALID_ARGUMENT', /^name: must not be empty/);
      }
      await expectRefusal(updateFolder({ folderId, updateMask: ['status'] }), 'INVALID_ARGUMENT', /^update_mask/);
      await expectRefusal(updateFolder({ folderId: 'b1gnone', name: 'x' }), 'NOT_FOUND', 'Folder b1gnone not found');
      const { cloudId } = kit.ids;
      await expectRefusal(updateCloud({ cloudId, name: 'system', updateMask: ['name'] }), 'ALREADY_EXISTS');
      await expectRefusal(updateFolder({ folderId: 'standard-images', name: 'x' }), 'FAILED_PRECONDITION', /everybody/);
      await expectRefusal(updateCloud({ cloudId: systemCloudId, name: 'x' }), 'FAILED_PRECONDITION', /everybody/);
    });
  });

  describe('Delete folder', () => {
    it('takes its bindings with it, and its name is free again', async () => {
      const folderId = await kit.createFolder('deleted');
      const binding = { roleId: 'viewer', subject: { id: 'allUsers', type: 'system' } };
      await kit.folders.setAccessBindings({ resourceId: folderId, accessBindings: [binding] }, kit.call());
      const operation = await deleteFolder(folderId, { deleteAfter: new Date() });
      expect(responseOf(operation).typeUrl).to.equal('type.googleapis.com/google.protobuf.Empty');
      await expectRefusal(kit.folders.get({ folderId }, kit.call()), 'NOT_FOUND');
      await expectRefusal(deleteFolder(folderId), 'NOT_FOUND');
      expect(await kit.fork().count(AccessBinding, { resourceId: folderId })).to.equal(0);
      expect(await kit.createFolder('deleted')).not.to.equal(folderId);
    });

    it('names what is in it and how much, and deletes nothing', async () => {
      const folderId = await kit.createFolder('full');
      const [one, two] = [await kit.createAccount('one', { folderId }), await kit.createAccount('two', { folderId })];
      await expectRefusal(
        deleteFolder(folderId),
        'FAILED_PRECONDITION',
        `Folder ${folderId} holds 2 service accounts: delete or move them first`,
      );
      for (const id of [one, two]) await kit.accounts.delete({ serviceAccountId: id }, kit.call());
      await deleteFolder(folderId);
      await expectRefusal(deleteFolder(kit.ids.folderId), 'FAILED_PRECONDITION', /holds [0-9]+ service account/);
    });

    it('waits for no operation that still runs in it', async () => {
      const folderId = await kit.createFolder('busy');
      await kit.operations.begin(kit.call(), () => ({
        folderId,
        resourceId: 'fd8',
        resourceKind: 'compute.image',
        description: 'Test',
        metadata: { typeUrl: 'type.googleapis.com/google.protobuf.Empty', value: new Uint8Array() },
        job: { kind: 'test', payload: {} },
      }));
      await expectRefusal(deleteFolder(folderId), 'FAILED_PRECONDITION', /holds 1 running operation:/);
      await query(kit.fork(), 'delete from jobs');
      await deleteFolder(folderId);
    });

    it('knows every table whose rows lie in folders', () => {
      const metadata = kit.fork().getMetadata();
      const tables = entities
        .map((schema) => metadata.get(schema.meta.class))
        .filter(({ properties }) => Object.hasOwn(properties, 'folderId'))
        .map(({ tableName }) => tableName)
        // Operations are history, and the installation's row only notes which folder it made: that one is never empty.
        .filter((table) => table !== 'operations' && table !== 'installation');
      for (const table of tables) {
        expect(
          folderContents.some(({ rows }) => rows.includes(` ${table} where folder_id = $1`)),
          table,
        ).to.equal(true);
      }
    });

    it('leaves the public folder, and is never put off', async () => {
      await expectRefusal(deleteFolder('standard-images'), 'FAILED_PRECONDITION', /everybody/);
      const folderId = await kit.createFolder('later');
      const deleteAfter = new Date(Date.now() + 3_600_000);
      await expectRefusal(deleteFolder(folderId, { deleteAfter }), 'UNIMPLEMENTED', /^delete_after/);
    });

    it('waits for what is being put in, and what comes later finds no folder', async () => {
      const folderId = await kit.createFolder('contended');
      const holding = kit.fork();
      await holding.begin();
      await holdFolder(holding, folderId);
      const others = kit.fork();
      await others.transactional((em) => holdFolder(em, folderId));
      const refused = expectRefusal(deleteFolder(folderId), 'FAILED_PRECONDITION', /holds 1 service account/);
      await untilWaiting(kit.fork(), 1);
      const account = { folderId, createdAt: new Date(), description: '', labels: {}, status: 'ACTIVE' } as const;
      holding.create(ServiceAccount, { ...account, id: newId('serviceAccount'), name: 'late' });
      await holding.commit();
      await refused;
      await kit.fork().nativeDelete(ServiceAccount, { folderId });
      await deleteFolder(folderId);
      await expectRefusal(kit.createAccount('too-late', { folderId }), 'NOT_FOUND', `Folder ${folderId} not found`);
    });

    it('leaves nothing behind in a race with creates', async () => {
      for (let round = 0; round < 5; round += 1) {
        const folderId = await kit.createFolder('racing');
        const creates = Array.from({ length: 4 }, (_, index) => kit.createAccount(`racer-${index}`, { folderId }));
        const outcomes = await Promise.allSettled([deleteFolder(folderId), ...creates]);
        const isThere = (await kit.fork().count(Folder, { id: folderId })) > 0;
        const accounts = await kit.fork().count(ServiceAccount, { folderId });
        expect(outcomes[0].status).to.equal(isThere ? 'rejected' : 'fulfilled');
        expect(accounts > 0).to.equal(isThere);
        await kit.fork().nativeDelete(ServiceAccount, { folderId });
        if (isThere) await deleteFolder(folderId);
      }
    });
  });

  describe('Create and Delete cloud', () => {
    it('makes its creator the owner, and takes bindings and limits away with it', async () => {
      const cloudId = await kit.createCloud('owned');
      const { accessBindings } = await kit.clouds.listAccessBindings({ resourceId: cloudId, ...page }, kit.call());
      expect(accessBindings).to.deep.equal([{ roleId: 'resource-manager.clouds.owner', subject: someAccount }]);
      const em = kit.fork();
      em.create(QuotaLimit, { cloudId, quotaId: 'compute.diskPools.count', value: 3, modifiedAt: new Date() });
      await em.flush();
      const folderId = await kit.createFolder('inside', { cloudId });
      await expectRefusal(deleteCloud(cloudId), 'FAILED_PRECONDITION', `Cloud ${cloudId} holds 1 folder: delete them first`);
      await deleteFolder(folderId);
      await deleteCloud(cloudId);
      await expectRefusal(kit.clouds.get({ cloudId }, kit.call()), 'NOT_FOUND', `Cloud ${cloudId} not found`);
      expect(await kit.fork().count(AccessBinding, { resourceId: cloudId })).to.equal(0);
      expect(await kit.fork().count(QuotaLimit, { cloudId })).to.equal(0);
      expect(await kit.fork().count(Operation, { resourceId: cloudId })).to.be.greaterThan(0);
    });

    it('leaves no folder behind in a race with creates', async () => {
      for (let round = 0; round < 3; round += 1) {
        const cloudId = await kit.createCloud('racing-cloud');
        const creates = Array.from({ length: 4 }, (_, index) => kit.createFolder(`racer-${index}`, { cloudId }));
        const [deleted] = await Promise.allSettled([deleteCloud(cloudId), ...creates]);
        const isThere = (await kit.fork().count(Cloud, { id: cloudId })) > 0;
        expect(deleted.status).to.equal(isThere ? 'rejected' : 'fulfilled');
        expect((await kit.fork().count(Folder, { cloudId })) > 0).to.equal(isThere);
        await kit.fork().nativeDelete(Folder, { cloudId });
        if (isThere) await deleteCloud(cloudId);
      }
    });

    it('keeps the cloud of the public folder, and the one that the first start made, in which its folder lies', async () => {
      await expectRefusal(deleteCloud(systemCloudId), 'FAILED_PRECONDITION', /everybody/);
      await expectRefusal(deleteCloud(kit.ids.cloudId), 'FAILED_PRECONDITION', /holds [0-9]+ folder/);
      const deleteAfter = new Date(Date.now() + 3_600_000);
      await expectRefusal(deleteCloud(await kit.createCloud('later'), { deleteAfter }), 'UNIMPLEMENTED');
    });

    it('needs a name that is free, and the organization that there is', async () => {
      await expectRefusal(
        kit.createCloud('default'),
        'ALREADY_EXISTS',
        `Cloud with name "default" already exists in organization ${kit.ids.organizationId}`,
      );
      await expectRefusal(kit.createCloud('x', { organizationId: 'bpfnone' }), 'NOT_FOUND', 'Organization bpfnone not found');
    });
  });

  describe('Access bindings', () => {
    const user = (roleId: string) => ({ roleId, subject: { id: 'aje1', type: 'userAccount' } });

    it('of folders and clouds are set and updated, and what really changed is answered', async () => {
      for (const [methods, resourceId] of [
        [kit.folders, await kit.createFolder('bound')],
        [kit.clouds, await kit.createCloud('bound-cloud')],
      ] as const) {
        await methods.setAccessBindings({ resourceId, accessBindings: [user('viewer')] }, kit.call());
        const operation = await methods.updateAccessBindings(
          {
            resourceId,
            accessBindingDeltas: [
              { action: AccessBindingAction.ADD, accessBinding: user('editor') },
              { action: AccessBindingAction.REMOVE, accessBinding: user('viewer') },
            ],
          },
          kit.call(),
        );
        expect(responseOf(operation).typeUrl).to.match(/AccessBindingsOperationResult$/);
        const { accessBindings } = await methods.listAccessBindings({ resourceId, ...page }, kit.call());
        expect(accessBindings).to.deep.equal([user('editor')]);
        await expectRefusal(methods.setAccessBindings({ resourceId: 'b1gnone', accessBindings: [] }, kit.call()), 'NOT_FOUND');
      }
    });

    it('of the system cloud keep the operator', async () => {
      const resourceId = systemCloudId;
      const operator = { roleId: 'admin', subject: { id: kit.ids.serviceAccountId, type: 'serviceAccount' } };
      const set = (accessBindings: (typeof operator)[]) =>
        kit.clouds.setAccessBindings({ resourceId, accessBindings }, kit.call());
      await expectRefusal(set([user('admin')]), 'FAILED_PRECONDITION', /must keep the role admin/);
      const remove = { resourceId, accessBindingDeltas: [{ action: AccessBindingAction.REMOVE, accessBinding: operator }] };
      await expectRefusal(kit.clouds.updateAccessBindings(remove, kit.call()), 'FAILED_PRECONDITION');
      await set([user('admin'), operator]);
      await set([operator]);
      const { accessBindings } = await kit.clouds.listAccessBindings({ resourceId, ...page }, kit.call());
      expect(accessBindings).to.deep.equal([operator]);
    });
  });
});
