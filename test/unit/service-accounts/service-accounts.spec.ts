// Service accounts and their keys: rules, what may be signed with which key, and when tokens end.
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { SignJWT } from 'jose';
import { Key as KeyMessage, Key_Algorithm } from '../../../generated/yandex/cloud/iam/v1/key.ts';
import { DeleteKeyMetadata, UpdateKeyRequest } from '../../../generated/yandex/cloud/iam/v1/key_service.ts';
import {
  ServiceAccount as ServiceAccountMessage,
  ServiceAccount_Status,
} from '../../../generated/yandex/cloud/iam/v1/service_account.ts';
import {
  SuspendServiceAccountRequest,
  UpdateServiceAccountRequest,
} from '../../../generated/yandex/cloud/iam/v1/service_account_service.ts';
import type { Operation as OperationMessage } from '../../../generated/yandex/cloud/operation/operation.ts';
import { query } from '../../../src/db/bound-query.ts';
import { AccessControl, type AccessRules } from '../../../src/iam/access-control.ts';
import { AccessBinding } from '../../../src/iam/access-binding.entity.ts';
import { setBindings, updateBindings } from '../../../src/iam/access-bindings.ts';
import { AuthorizedKey } from '../../../src/iam/authorized-key.entity.ts';
import { permissionsOf } from '../../../src/iam/roles.ts';
import { ServiceAccount } from '../../../src/iam/service-account.entity.ts';
import type { TokenAuthority } from '../../../src/iam/tokens.ts';
import { DomainError } from '../../../src/platform/errors.ts';
import { setLimit } from '../../../src/quotas/limits.ts';
import { serviceAccountsQuota } from '../../../src/service-accounts/account-quota.ts';
import { everybodyMay, expectRefusal, someAccount } from '../../support/call.ts';
import { IdentityKit } from '../../support/identity-kit.ts';
import { untilWaiting } from '../../support/until-waiting.ts';

const page = { pageSize: 0n, pageToken: '' };
const hour = 3_600_000;

describe('ServiceAccountService and KeyService', () => {
  let kit: IdentityKit;
  let elsewhere: TokenAuthority;

  before(async () => {
    kit = await IdentityKit.open();
    elsewhere = await kit.otherProcess();
  });

  after(async () => {
    await elsewhere?.[Symbol.asyncDispose]();
    await kit?.[Symbol.asyncDispose]();
  });

  const get = (serviceAccountId: string) => kit.accounts.get({ serviceAccountId }, kit.call());
  const update = (request: Partial<UpdateServiceAccountRequest>) =>
    kit.accounts.update(UpdateServiceAccountRequest.fromPartial(request), kit.call());
  const suspend = (serviceAccountId: string, expiresAt?: Date) =>
    kit.accounts.suspend(
      SuspendServiceAccountRequest.fromPartial({ serviceAccountId, ...(expiresAt && { expiresAt }) }),
      kit.call(),
    );
  const remove = (serviceAccountId: string) => kit.accounts.delete({ serviceAccountId }, kit.call());
  const deleteKey = (keyId: string) => kit.keys.delete({ keyId }, kit.call());

  const responseOf = (operation: OperationMessage) => {
    if (operation.result?.$case !== 'response') throw new Error('the operation has no response');
    return operation.result.value;
  };

  /** What an SDK makes of a key. */
  const jwtOf = (keyId: string, accountId: string, privateKey: string): Promise<string> => {
    const now = Math.floor(Date.now() / 1000);
    return new SignJWT({ iss: accountId, aud: 'https://iam.api.cloud.yandex.net/iam/v1/tokens', iat: now, exp: now + 3600 })
      .setProtectedHeader({ typ: 'JWT', alg: 'PS256', kid: keyId })
      .sign(createPrivateKey(privateKey));
  };

  const signIn = async (jwt: string) =>
    (await kit.tokens.create({ identity: { $case: 'jwt', value: jwt } }, kit.call({ subject: undefined }))).iamToken;

  /** Until another process refuses the token; at most 30 s. */
  const untilRefused = async (token: string) => {
    const deadline = Date.now() + 30_000;
    const isGood = () =>
      elsewhere.verify(token).then(
        () => true,
        () => false,
      );
    while (await isGood()) {
      if (Date.now() > deadline) throw new Error('the token is still good');
      await delay(20);
    }
  };

  describe('An account', () => {
    it('is made, read, listed by name, changed and deleted by operations that are done', async () => {
      const id = await kit.createAccount('whole', { description: 'd', labels: { a: 'b' } });
      const account = await get(id);
      expect(account).to.include({ id, folderId: kit.ids.folderId, name: 'whole', description: 'd' });
      expect(account).to.include({ status: ServiceAccount_Status.ACTIVE, expiresAt: undefined, lastAuthenticatedAt: undefined });
      const list = (filter: string) => kit.accounts.list({ ...page, folderId: kit.ids.folderId, filter }, kit.call());
      expect((await list('name = "whole"')).serviceAccounts).to.deep.equal([account]);
      expect((await list('')).serviceAccounts.map(({ name }) => name)).to.include.members(['admin', 'whole']);
      const updated = await update({ serviceAccountId: id, name: 'whole', description: 'e', updateMask: ['description'] });
      expect(ServiceAccountMessage.decode(responseOf(updated).value)).to.deep.equal({ ...account, description: 'e' });
      await update({ serviceAccountId: id, name: 'other-name' });
      expect(await get(id)).to.deep.include({ name: 'other-name', description: '', labels: {} });
      const { operations } = await kit.accounts.listOperations({ serviceAccountId: id, ...page }, kit.call());
      expect(operations.map(({ description, done }) => [description, done])).to.have.deep.members([
        ['Create service account', true],
        ['Update service account', true],
        ['Update service account', true],
      ]);
      await remove(id);
      await expectRefusal(get(id), 'NOT_FOUND', `Service account ${id} not found`);
      await expectRefusal(remove(id), 'NOT_FOUND');
    });

    it('has a name of its own in its folder, also in a race', async () => {
      const attempts = await Promise.allSettled(Array.from({ length: 6 }, () => kit.createAccount('raced')));
      expect(attempts.filter(({ status }) => status === 'fulfilled')).to.have.length(1);
      await expectRefusal(
        kit.createAccount('raced'),
        'ALREADY_EXISTS',
        /^Service account with name "raced" already exists in folder/,
      );
      await kit.createAccount('raced', { folderId: await kit.createFolder('for-accounts') });
      await expectRefusal(kit.createAccount('x', { folderId: 'b1gnone' }), 'NOT_FOUND', 'Folder b1gnone not found');
    });

    it('is one of as many as its cloud may have, also in a race', async () => {
      const cloudId = await kit.createCloud('with-few-accounts');
      const folders = [await kit.createFolder('one', { cloudId }), await kit.createFolder('two', { cloudId })];
      await setLimit(kit.fork(), serviceAccountsQuota, cloudId, 3);
      const attempts = await Promise.allSettled(
        Array.from({ length: 8 }, (_, n) => kit.createAccount(`a${n}`, { folderId: folders[n % 2]! })),
      );
      expect(attempts.filter(({ status }) => status === 'fulfilled')).to.have.length(3);
      const more = kit.createAccount('more', { folderId: folders[0]! });
      await expectRefusal(more, 'RESOURCE_EXHAUSTED', 'Limit iam.serviceAccounts.count exceeded');
    });

    it('takes its keys, the bindings on it and the roles it has with it', async () => {
      const id = await kit.createAccount('bound');
      const other = await kit.createAccount('other');
      await kit.createKey({ serviceAccountId: id });
      const of = (accountId: string, roleId = 'viewer') => ({ roleId, subject: { id: accountId, type: 'serviceAccount' } });
      await kit.accounts.setAccessBindings({ resourceId: id, accessBindings: [of(other)] }, kit.call());
      const bound = [of(id), of(other), of(id, 'editor')];
      await kit.folders.setAccessBindings({ resourceId: kit.ids.folderId, accessBindings: bound }, kit.call());
      await remove(id);
      expect(await kit.fork().count(AuthorizedKey, { serviceAccountId: id })).to.equal(0);
      expect(await kit.fork().count(AccessBinding, { resourceId: id })).to.equal(0);
      const left = await kit.folders.listAccessBindings({ resourceId: kit.ids.folderId, ...page }, kit.call());
      expect(left.accessBindings).to.deep.equal([of(other)]);
    });

    it('goes with another at once, though each has roles on the other', async () => {
      for (let round = 0; round < 6; round += 1) {
        const [one, other] = [await kit.createAccount('mutual-one'), await kit.createAccount('mutual-other')];
        const bound = (on: string, to: string) =>
          kit.fork().transactional((em) =>
            setBindings(
              em,
              { kind: 'iam.serviceAccount', id: on },
              ['viewer', 'editor', 'admin'].map((roleId) => ({ roleId, subject: { id: to, type: 'serviceAccount' } })),
            ),
          );
        await bound(one, other);
        await bound(other, one);
        // Both are kept waiting by a row that each has to lock, so that they go on at the same moment.
        const go = Promise.withResolvers<void>();
        const held = Promise.withResolvers<void>();
        const holding = kit.fork().transactional(async (em) => {
          await em.execute('lock table access_bindings in share row exclusive mode');
          held.resolve();
          await go.promise;
        });
        await held.promise;
        const removing = Promise.all([remove(one), remove(other)]);
        await untilWaiting(kit.fork(), 2);
        go.resolve();
        await Promise.all([holding, removing]);
        expect(await kit.fork().count(AccessBinding, { resourceId: { $in: [one, other] } })).to.equal(0);
      }
    });

    it('goes while the bindings of what it has roles on are changed, without either waiting for ever', async () => {
      const resources = ['one', 'two', 'three'].map((id) => ({ kind: 'compute.image', id }) as const);
      for (let round = 0; round < 4; round += 1) {
        const id = await kit.createAccount('contended');
        const bindings = ['viewer', 'editor', 'admin', 'auditor'].map((roleId) => ({
          roleId,
          subject: { id, type: 'serviceAccount' },
        }));
        for (const resource of resources) await kit.fork().transactional((em) => setBindings(em, resource, bindings));
        await Promise.all([
          remove(id),
          ...resources.map((resource) => kit.fork().transactional((em) => setBindings(em, resource, bindings.toReversed()))),
          ...resources.map((resource) =>
            kit.fork().transactional((em) => updateBindings(em, resource, [{ action: 'REMOVE', binding: bindings[2]! }])),
          ),
        ]);
        await kit.fork().nativeDelete(AccessBinding, { subjectId: id });
      }
    });

    it('of the first start stays: it cannot be deleted, suspended or made to expire', async () => {
      const id = kit.ids.serviceAccountId;
      await expectRefusal(
        remove(id),
        'FAILED_PRECONDITION',
        `Service account ${id} administers this installation: it cannot be deleted`,
      );
      await expectRefusal(suspend(id), 'FAILED_PRECONDITION', /cannot be suspended/);
      const expiresAt = new Date(Date.now() + hour);
      await expectRefusal(update({ serviceAccountId: id, name: 'admin', expiresAt }), 'FAILED_PRECONDITION', /cannot expire/);
      await update({ serviceAccountId: id, name: 'admin', description: 'still here' });
    });

    it('of the first start is out of reach of who administers its folder and its cloud', async () => {
      const { serviceAccountId: id, folderId, cloudId } = kit.ids;
      const local = { id: await kit.createAccount('local-admin'), type: 'serviceAccount' };
      const binding = { roleId: 'admin', subject: local };
      for (const bound of [
        { kind: 'resource-manager.folder', id: folderId },
        { kind: 'resource-manager.cloud', id: cloudId },
      ] as const) {
        await kit.fork().transactional((em) => updateBindings(em, bound, [{ action: 'ADD', binding }]));
      }
      const access = new AccessControl({ fork: kit.fork });
      const call = () => kit.call({ subject: local, access });
      const { key } = await kit.createKey({ serviceAccountId: id });
      const { token: iamToken } = kit.authority.issue({ id, type: 'serviceAccount' });
      const deltas = [{ action: 1 as const, accessBinding: binding }];
      const deeds: Record<string, () => Promise<unknown>> = {
        createKey: () => kit.createKey({ serviceAccountId: id }, call()),
        listKeys: () => kit.keys.list({ serviceAccountId: id, format: 0, ...page }, call()),
        createToken: () => kit.tokens.createForServiceAccount({ serviceAccountId: id }, call()),
        revoke: () => kit.tokens.revoke({ iamToken }, call()),
        update: () =>
          kit.accounts.update(UpdateServiceAccountRequest.fromPartial({ serviceAccountId: id, name: 'mine' }), call()),
        suspend: () => kit.accounts.suspend(SuspendServiceAccountRequest.fromPartial({ serviceAccountId: id }), call()),
        reactivate: () => kit.accounts.reactivate({ serviceAccountId: id }, call()),
        delete: () => kit.accounts.delete({ serviceAccountId: id }, call()),
        listOperations: () => kit.accounts.listOperations({ serviceAccountId: id, ...page }, call()),
        listBindings: () => kit.accounts.listAccessBindings({ resourceId: id, ...page }, call()),
        setBindings: () => kit.accounts.setAccessBindings({ resourceId: id, accessBindings: [binding] }, call()),
        updateBindings: () => kit.accounts.updateAccessBindings({ resourceId: id, accessBindingDeltas: deltas }, call()),
      };
      for (const [name, deed] of Object.entries(deeds)) {
        await expectRefusal(deed(), 'PERMISSION_DENIED', `Permission denied to service account ${id}`).catch((error: unknown) => {
          throw new Error(name, { cause: error });
        });
      }
      const keyId = key!.id;
      const unseen = `Key ${keyId} not found`;
      await expectRefusal(kit.keys.get({ keyId, format: 0 }, call()), 'NOT_FOUND', unseen);
      await expectRefusal(kit.keys.delete({ keyId }, call()), 'NOT_FOUND', unseen);
      await expectRefusal(kit.keys.update(UpdateKeyRequest.fromPartial({ keyId }), call()), 'NOT_FOUND', unseen);
      expect((await kit.accounts.get({ serviceAccountId: id }, call())).name).to.equal('admin');
      await kit.authority.verify(iamToken);
      // To its neighbours he may do it.
      await kit.createKey({ serviceAccountId: local.id }, call());
      await deleteKey(keyId);
      await remove(local.id);
    });

    it('works for longer by who may end its suspension alone', async () => {
      const editorMay: AccessRules = {
        ...everybodyMay,
        isAllowed: (_subject, permission) => permissionsOf('editor').has(permission),
      };
      const editing = (change: Partial<UpdateServiceAccountRequest>) =>
        kit.accounts.update(
          UpdateServiceAccountRequest.fromPartial({ serviceAccountId: id, name: 'short', ...change }),
          kit.call({ access: editorMay }),
        );
      const soon = Date.now() + hour;
      const id = await kit.createAccount('short', { expiresAt: new Date(soon) });
      const denied = `Permission denied to service account ${id}`;
      await expectRefusal(editing({ expiresAt: new Date(soon + hour) }), 'PERMISSION_DENIED', denied);
      await expectRefusal(editing({}), 'PERMISSION_DENIED', denied);
      await editing({ description: 'd', updateMask: ['description'] });
      await editing({ expiresAt: new Date(soon - 1000) });
      await expectRefusal(
        kit.accounts.reactivate({ serviceAccountId: id }, kit.call({ access: editorMay })),
        'PERMISSION_DENIED',
      );
      await update({ serviceAccountId: id, name: 'short', expiresAt: new Date(soon + hour) });
    });

    it('expires in the future only', async () => {
      const past = new Date(Date.now() - 1);
      await expectRefusal(
        kit.createAccount('past', { expiresAt: past }),
        'INVALID_ARGUMENT',
        /^expires_at: must be in the future/,
      );
      const id = await kit.createAccount('mortal', { expiresAt: new Date(Date.now() + hour) });
      await expectRefusal(update({ serviceAccountId: id, expiresAt: past, updateMask: ['expires_at'] }), 'INVALID_ARGUMENT');
      await expectRefusal(suspend(id, past), 'INVALID_ARGUMENT');
      await update({ serviceAccountId: id, updateMask: ['expires_at'] });
      expect((await get(id)).expiresAt).to.equal(undefined);
    });
  });

  describe('The tokens of an account', () => {
    const withToken = async (name: string) => {
      const id = await kit.createAccount(name);
      const { key, privateKey } = await kit.createKey({ serviceAccountId: id });
      const jwt = await jwtOf(key!.id, id, privateKey);
      const token = await signIn(jwt);
      expect(await elsewhere.verify(token)).to.deep.equal({ id, type: 'serviceAccount' });
      return { id, jwt, token };
    };

    it('end on all processes when it is deleted', async () => {
      const { id, jwt, token } = await withToken('deleted');
      await remove(id);
      await expectRefusal(signIn(jwt), 'UNAUTHENTICATED');
      await untilRefused(token);
    });

    it('end at once on the process through which it is suspended, deleted or made to expire', async () => {
      const { id, token } = await withToken('at-once');
      expect((await kit.authority.verify(token)).id).to.equal(id);
      await suspend(id);
      expect(kit.authority.remembered(token)).to.equal(undefined);
      await expectRefusal(kit.authority.verify(token), 'UNAUTHENTICATED');
      await kit.accounts.reactivate({ serviceAccountId: id }, kit.call());
      expect((await kit.authority.verify(token)).id).to.equal(id);
      await update({ serviceAccountId: id, expiresAt: new Date(Date.now() + hour), updateMask: ['expires_at'] });
      expect(kit.authority.remembered(token)).to.equal(undefined);
      expect((await kit.authority.verify(token)).id).to.equal(id);
      await remove(id);
      await expectRefusal(kit.authority.verify(token), 'UNAUTHENTICATED');
    });

    it('end while it is suspended, and count again afterwards', async () => {
      const { id, jwt, token } = await withToken('suspended');
      await suspend(id);
      expect((await get(id)).status).to.equal(ServiceAccount_Status.SUSPENDED);
      await expectRefusal(signIn(jwt), 'UNAUTHENTICATED');
      await expectRefusal(
        kit.tokens.createForServiceAccount({ serviceAccountId: id }, kit.call()),
        'FAILED_PRECONDITION',
        `Service account ${id} is SUSPENDED`,
      );
      await untilRefused(token);
      await kit.accounts.reactivate({ serviceAccountId: id }, kit.call());
      expect((await get(id)).status).to.equal(ServiceAccount_Status.ACTIVE);
      expect((await elsewhere.verify(token)).id).to.equal(id);
      await signIn(jwt);
    });

    it('count again when the time of a suspension is over', async () => {
      const { id, jwt, token } = await withToken('suspended-for-a-while');
      await suspend(id, new Date(Date.now() + hour));
      await untilRefused(token);
      await query(kit.fork(), `update service_accounts set suspended_until = now() - interval '1 second' where id = $1`, [id]);
      expect((await get(id)).status).to.equal(ServiceAccount_Status.ACTIVE);
      expect((await elsewhere.verify(token)).id).to.equal(id);
      await signIn(jwt);
    });

    it('end when it expires', async () => {
      const { id, jwt, token } = await withToken('expired');
      await query(kit.fork(), `update service_accounts set expires_at = now() - interval '1 second' where id = $1`, [id]);
      await expectRefusal(signIn(jwt), 'UNAUTHENTICATED');
      await expectRefusal(
        kit.tokens.createForServiceAccount({ serviceAccountId: id }, kit.call()),
        'FAILED_PRECONDITION',
        /expired at/,
      );
      await untilRefused(token);
    });

    it('end on all processes when they are revoked, each by itself', async () => {
      const { id, jwt, token } = await withToken('revoked');
      const other = await signIn(jwt);
      expect((await elsewhere.verify(other)).id).to.equal(id);
      expect(await kit.tokens.revoke({ iamToken: token }, kit.call({ subject: { id, type: 'serviceAccount' } }))).to.deep.equal({
        subjectId: id,
      });
      await expectRefusal(kit.authority.verify(token), 'UNAUTHENTICATED');
      await untilRefused(token);
      expect((await elsewhere.verify(other)).id).to.equal(id);
    });
  });

  describe('A key', () => {
    it('signs in, its halves belong together, and nothing keeps the private one', async () => {
      const id = await kit.createAccount('signing');
      const { key, privateKey } = await kit.createKey({ serviceAccountId: id, description: 'd' });
      expect(key).to.include({ description: 'd', keyAlgorithm: Key_Algorithm.RSA_2048, lastUsedAt: undefined });
      expect(key!.subject).to.deep.equal({ $case: 'serviceAccountId', value: id });
      expect(createPublicKey(privateKey).export({ type: 'spki', format: 'pem' })).to.equal(key!.publicKey);
      expect(await kit.authority.verify(await signIn(await jwtOf(key!.id, id, privateKey)))).to.deep.equal({
        id,
        type: 'serviceAccount',
      });
      const used = await kit.keys.get({ keyId: key!.id, format: 0 }, kit.call());
      expect({ ...used, lastUsedAt: undefined }).to.deep.equal(key);
      expect(used.lastUsedAt!.getTime()).to.be.greaterThan(Date.now() - 60_000);
      expect((await get(id)).lastAuthenticatedAt).to.deep.equal(used.lastUsedAt);
      const secret = privateKey.split('\n')[5]!;
      for (const { tableName } of kit.fork().getMetadata().getAll().values()) {
        const [row] = await query<{ count: number }>(
          kit.fork(),
          `select count(*)::int as count from "${tableName}" as every where strpos(every::text, $1) > 0`,
          [secret],
        );
        expect(row!.count, tableName).to.equal(0);
      }
    });

    it('has 4096 bits when asked', async () => {
      const { key, privateKey } = await kit.createKey({
        serviceAccountId: await kit.createAccount('strong'),
        keyAlgorithm: Key_Algorithm.RSA_4096,
      });
      expect(key!.keyAlgorithm).to.equal(Key_Algorithm.RSA_4096);
      expect(createPrivateKey(privateKey).asymmetricKeyDetails!.modulusLength).to.equal(4096);
      expect((await kit.keys.get({ keyId: key!.id, format: 0 }, kit.call())).keyAlgorithm).to.equal(Key_Algorithm.RSA_4096);
    });

    it('that was deleted signs nothing any more, also what was signed before; the other keys do', async () => {
      const id = await kit.createAccount('two-keys');
      const [one, two] = [await kit.createKey({ serviceAccountId: id }), await kit.createKey({ serviceAccountId: id })];
      const jwt = await jwtOf(one.key!.id, id, one.privateKey);
      await signIn(jwt);
      const operation = await deleteKey(one.key!.id);
      expect(operation.done).to.equal(true);
      expect(DeleteKeyMetadata.decode(operation.metadata!.value).keyId).to.equal(one.key!.id);
      await expectRefusal(signIn(jwt), 'UNAUTHENTICATED');
      await signIn(await jwtOf(two.key!.id, id, two.privateKey));
      const { keys } = await kit.keys.list({ ...page, serviceAccountId: id, format: 0 }, kit.call());
      expect(keys.map((key) => key.id)).to.deep.equal([two.key!.id]);
      await expectRefusal(deleteKey(one.key!.id), 'NOT_FOUND', `Key ${one.key!.id} not found`);
    });

    it('is one of at most ten, also in a race', async () => {
      const id = await kit.createAccount('many-keys');
      const em = kit.fork();
      for (let index = 0; index < 8; index += 1) {
        em.create(AuthorizedKey, {
          id: `ajemany${index}`,
          serviceAccountId: id,
          createdAt: new Date(),
          description: '',
          keyAlgorithm: 'RSA_2048',
          publicKey: 'none',
        });
      }
      await em.flush();
      const attempts = await Promise.allSettled(Array.from({ length: 4 }, () => kit.createKey({ serviceAccountId: id })));
      expect(attempts.filter(({ status }) => status === 'fulfilled')).to.have.length(2);
      await expectRefusal(
        kit.createKey({ serviceAccountId: id }),
        'RESOURCE_EXHAUSTED',
        `Service account ${id} has 10 keys, as many as it can have: delete one first`,
      );
      await deleteKey('ajemany0');
      await kit.createKey({ serviceAccountId: id });
    });

    it('is made for an account that is there, and lists default to the caller', async () => {
      await expectRefusal(kit.createKey({ serviceAccountId: 'ajenone' }), 'NOT_FOUND', 'Service account ajenone not found');
      const id = await kit.createAccount('own-keys');
      const subject = { id, type: 'serviceAccount' };
      const { key } = await kit.createKey({}, kit.call({ subject }));
      expect(key!.subject!.value).to.equal(id);
      const { keys } = await kit.keys.list({ ...page, serviceAccountId: '', format: 0 }, kit.call({ subject }));
      expect(keys).to.deep.equal([key]);
      const user = kit.call({ subject: { id: 'aje1', type: 'userAccount' } });
      await expectRefusal(kit.createKey({}, user), 'INVALID_ARGUMENT', /^service_account_id/);
      await expectRefusal(kit.createKey({}, kit.call({ subject: undefined })), 'UNAUTHENTICATED');
      await expectRefusal(kit.createKey({}, kit.call({ subject: someAccount })), 'NOT_FOUND');
    });

    it('changes its description, and keeps its operations in a list', async () => {
      const { key } = await kit.createKey({ serviceAccountId: await kit.createAccount('described') });
      const keyId = key!.id;
      const described = (request: Partial<UpdateKeyRequest>) =>
        kit.keys.update(UpdateKeyRequest.fromPartial({ keyId, ...request }), kit.call());
      const operation = await described({ description: 'new', updateMask: ['description'] });
      expect(KeyMessage.decode(responseOf(operation).value)).to.deep.equal({ ...key, description: 'new' });
      await described({});
      expect((await kit.keys.get({ keyId, format: 0 }, kit.call())).description).to.equal('');
      await expectRefusal(described({ updateMask: ['public_key'] }), 'INVALID_ARGUMENT', /^update_mask/);
      expect((await kit.keys.listOperations({ keyId, ...page }, kit.call())).operations).to.have.length(2);
    });

    it('of an account that is deleted while it is made is not left', async () => {
      const id = await kit.createAccount('vanishing');
      const making = kit.createKey({ serviceAccountId: id }).catch((error: unknown) => error);
      await remove(id);
      const outcome = await making;
      // Which of the two is first is the machine's choice.
      if (outcome instanceof DomainError) expect(outcome.message).to.equal(`Service account ${id} not found`);
      expect(await kit.fork().count(AuthorizedKey, { serviceAccountId: id })).to.equal(0);
      expect(await kit.fork().count(ServiceAccount, { id })).to.equal(0);
    });
  });
});
