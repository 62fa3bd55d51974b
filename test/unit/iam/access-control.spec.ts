import { expect } from 'chai';
import { AccessBinding } from '../../../src/iam/access-binding.entity.ts';
import { setBindings, updateBindings } from '../../../src/iam/access-bindings.ts';
import { AccessControl } from '../../../src/iam/access-control.ts';
import { assertStillGranted, authorize, authorizeIn } from '../../../src/iam/authorize.ts';
import { bootstrap, type BootstrapIds } from '../../../src/iam/bootstrap.ts';
import type { Subject } from '../../../src/iam/call.ts';
import { Cloud } from '../../../src/iam/hierarchy/cloud.entity.ts';
import { Folder } from '../../../src/iam/hierarchy/folder.entity.ts';
import { type Permission, permissions } from '../../../src/iam/permissions.ts';
import type { Resource } from '../../../src/iam/resource.ts';
import { ServiceAccount } from '../../../src/iam/service-account.entity.ts';
import { expectRefusal, testCall } from '../../support/call.ts';
import { iamSchemas } from '../../support/iam-schemas.ts';
import { testOrm, type TestOrm } from '../../support/test-orm.ts';

const someone: Subject = { id: 'ajesomeone', type: 'serviceAccount' };
const folder = { kind: 'resource-manager.folder', id: 'b1gown' } as const;
const otherFolder = { kind: 'resource-manager.folder', id: 'b1gother' } as const;
const cloud = { kind: 'resource-manager.cloud', id: 'b1gcloud' } as const;
const image = { kind: 'compute.image', id: 'fd8image', folderId: folder.id } as const;

describe('Access control', () => {
  let database: TestOrm;
  let ids: BootstrapIds;
  let nowMs = 0;

  before(async () => {
    database = await testOrm(iamSchemas);
    ids = await database.orm.em.fork().transactional((em) => bootstrap(em));
    const em = database.orm.em.fork();
    const described = { createdAt: new Date(), description: '', labels: {} };
    em.create(Cloud, { ...described, id: cloud.id, organizationId: 'bpf', name: 'tested', system: false });
    for (const { id } of [folder, otherFolder]) {
      em.create(Folder, { ...described, id, cloudId: cloud.id, name: id, status: 'ACTIVE' });
    }
    await em.flush();
  });

  after(() => database?.[Symbol.asyncDispose]());

  beforeEach(async () => {
    for (const resource of [folder, otherFolder, cloud, image]) await bind(resource);
  });

  const fork = () => database.orm.em.fork();
  const control = () => new AccessControl({ fork, monotonicNow: () => nowMs });

  async function bind({ kind, id }: Resource, ...given: [role: string, subject: Subject][]): Promise<void> {
    const bindings = given.map(([roleId, subject]) => ({ roleId, subject }));
    await fork().transactional((em) => setBindings(em, { kind, id }, bindings));
  }

  async function add({ kind, id }: Resource, roleId: string, action: 'ADD' | 'REMOVE' = 'ADD'): Promise<void> {
    await fork().transactional((em) => updateBindings(em, { kind, id }, [{ action, binding: { roleId, subject: someone } }]));
  }

  /** By what is read anew, by what is remembered, and within a transaction: all three must agree. */
  async function may(permission: Permission, resource: Resource, subject = someone): Promise<boolean> {
    const access = control();
    const answers = [
      await access.isAllowed(subject, permission, resource),
      await access.isAllowed(subject, permission, resource),
      await fork().transactional((em) => access.isAllowed(subject, permission, resource, em) as Promise<boolean>),
    ];
    expect(new Set(answers).size, `${permission}: ${answers.join()}`).to.equal(1);
    return answers[0]!;
  }

  it('lets roles on a cloud, a folder and the resource count for the resource, and none of another', async () => {
    for (const resource of [cloud, folder, image]) {
      expect(await may('compute.images.update', image)).to.equal(false);
      await bind(resource, ['compute.editor', someone]);
      expect(await may('compute.images.update', image), resource.kind).to.equal(true);
      expect(await may('compute.images.setAccessBindings', image), resource.kind).to.equal(false);
      await bind(resource);
    }
    await bind(otherFolder, ['admin', someone]);
    await bind({ kind: 'compute.image', id: 'fd8other' }, ['admin', someone]);
    await bind({ kind: 'compute.disk', id: image.id }, ['admin', someone]);
    expect(await may('compute.images.get', image)).to.equal(false);
  });

  it("asks of the operator's account the system cloud, not the folder in which it lies", async () => {
    const { serviceAccountId: id, folderId, cloudId } = ids;
    const operator = { kind: 'iam.serviceAccount', id, folderId } as const;
    const neighbour = { kind: 'iam.serviceAccount', id: 'ajeneighbour', folderId } as const;
    const system = await fork().findOneOrFail(Cloud, { system: true });
    const places: Resource[] = [
      { kind: 'resource-manager.folder', id: folderId },
      { kind: 'resource-manager.cloud', id: cloudId },
    ];
    const deeds = permissions.filter((name) => /^iam\.(serviceAccounts|keys)\./.test(name) && name !== 'iam.serviceAccounts.get');
    expect(deeds).to.have.length.above(10);
    for (const place of places) {
      await add(place, 'admin');
      for (const permission of deeds) {
        expect(await may(permission, operator), `${permission} by ${place.kind}`).to.equal(false);
        expect(await may(permission, neighbour), permission).to.equal(true);
      }
      expect(await may('iam.serviceAccounts.get', operator)).to.equal(true);
      await add(place, 'admin', 'REMOVE');
    }
    expect(await may('iam.serviceAccounts.get', operator)).to.equal(false);
    for (const place of [operator, { kind: 'resource-manager.cloud', id: system.id } as const]) {
      await add(place, 'admin');
      for (const permission of [...deeds, 'iam.serviceAccounts.get'] as const) {
        expect(await may(permission, operator), `${permission} by ${place.id}`).to.equal(true);
      }
      await add(place, 'admin', 'REMOVE');
    }
  });

  it('does not let roles on a resource or a folder count above it', async () => {
    await bind(image, ['admin', someone]);
    expect(await may('compute.images.list', folder)).to.equal(false);
    await bind(folder, ['admin', someone]);
    expect(await may('resource-manager.folders.list', cloud)).to.equal(false);
  });

  it('counts what is given to everybody for every caller, and what is given to a group for those in it', async () => {
    for (const everybody of ['allAuthenticatedUsers', 'allUsers']) {
      await bind(image, ['compute.images.user', { type: 'system', id: everybody }]);
      expect(await may('compute.images.use', image), everybody).to.equal(true);
      expect(await may('compute.images.delete', image), everybody).to.equal(false);
    }
    const group = 'group:organization:bpf:users';
    await bind(image, ['compute.images.user', { type: 'system', id: group }]);
    expect(await may('compute.images.use', image)).to.equal(false);
    expect(await may('compute.images.use', image, { id: 'u', type: 'userAccount', groups: [group] })).to.equal(true);
    expect(await may('compute.images.use', image, { id: group, type: 'userAccount' })).to.equal(false);
  });

  it('takes nobody for a subject of the same id and another type', async () => {
    await bind(folder, ['admin', { id: someone.id, type: 'userAccount' }], ['admin', { id: someone.id, type: 'group' }]);
    expect(await may('compute.images.get', image)).to.equal(false);
    await bind(image, ['admin', { id: 'allAuthenticatedUsers', type: 'userAccount' }]);
    expect(await may('compute.images.get', image)).to.equal(false);
  });

  it('keeps apart subjects and resources whose ids could be read as one text', async () => {
    const first = { id: 'a/9/x', type: 'serviceAccount' };
    const access = control();
    await bind({ kind: 'compute.image', id: 'q' }, ['compute.images.user', first]);
    expect(await access.isAllowed(first, 'compute.images.get', { kind: 'compute.image', id: 'q' })).to.equal(true);
    for (const [id, imageId] of [
      ['a', '9/x/compute.image/q'],
      ['a/9', 'x/compute.image/q'],
    ] as const) {
      const subject = { id, type: 'serviceAccount' };
      expect(await access.isAllowed(subject, 'compute.images.get', { kind: 'compute.image', id: imageId })).to.equal(false);
    }
  });

  it('allows nothing by a role that is not known, and nothing in a folder that is not there', async () => {
    await bind(folder, ['compute.wizard', someone]);
    expect(await may('compute.images.get', image)).to.equal(false);
    await bind({ kind: 'resource-manager.folder', id: 'b1gnone' }, ['admin', someone]);
    expect(await may('compute.images.create', { kind: 'resource-manager.folder', id: 'b1gnone' })).to.equal(false);
  });

  it('sees a change of another process within 2 s, and one of its own at once', async () => {
    const access = control();
    const asked = () => access.isAllowed(someone, 'compute.images.get', image);
    expect(await asked()).to.equal(false);
    await bind(folder, ['viewer', someone]);
    nowMs += 1_999;
    expect(await asked()).to.equal(false);
    nowMs += 1;
    expect(await asked()).to.equal(true);
    await bind(folder);
    expect(await asked()).to.equal(true);
    access.forget();
    expect(await asked()).to.equal(false);
  });

  it('does not remember what was read before a change', async () => {
    const read = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    const held = () => {
      const em = fork();
      const find = em.find.bind(em) as (...args: unknown[]) => Promise<unknown>;
      em.find = (async (...args: unknown[]) => {
        const rows = await find(...args);
        if (args[0] === AccessBinding) {
          read.resolve();
          await goOn.promise;
        }
        return rows;
      }) as typeof em.find;
      return em;
    };
    const access = new AccessControl({ fork: held, monotonicNow: () => nowMs });
    const early = Promise.resolve(access.isAllowed(someone, 'compute.images.get', image));
    await read.promise;
    await bind(folder, ['viewer', someone]);
    access.forget();
    goOn.resolve();
    expect(await early).to.equal(false);
    expect(await access.isAllowed(someone, 'compute.images.get', image)).to.equal(true);
  });

  it('asks inside a transaction through that transaction alone', async () => {
    await bind(folder, ['viewer', someone]);
    const access = new AccessControl({
      fork: () => {
        throw new Error('a second connection was asked for');
      },
    });
    await fork().transactional(async (em) => {
      expect(await access.isAllowed(someone, 'compute.images.get', image, em)).to.equal(true);
      const call = testCall(em, { subject: someone, access });
      await authorizeIn(em, call, 'compute.images.get', image);
      await expectRefusal(authorizeIn(em, call, 'compute.images.update', image), 'PERMISSION_DENIED');
      await expectRefusal(authorizeIn(em, call, 'compute.images.create', { ...folder, id: 'b1gnone' }), 'PERMISSION_DENIED');
    });
  });

  describe('in words', () => {
    const call = (subject: Subject | undefined = someone) => testCall(fork(), { subject, access: control() });
    const refused = (permission: Permission, resource: Resource, subject?: Subject) =>
      authorize(call(subject), permission, resource);

    it('what may not be seen is not there', async () => {
      for (const permission of ['compute.images.get', 'compute.images.delete', 'compute.images.use'] as const) {
        await expectRefusal(refused(permission, image), 'NOT_FOUND', 'Image fd8image not found');
      }
      await expectRefusal(refused('resource-manager.folders.update', folder), 'NOT_FOUND', 'Folder b1gown not found');
      await expectRefusal(refused('resource-manager.clouds.get', cloud), 'NOT_FOUND', 'Cloud b1gcloud not found');
    });

    it('what may be seen, but not that be done to it, is denied', async () => {
      await bind(image, ['compute.images.user', someone]);
      await expectRefusal(refused('compute.images.delete', image), 'PERMISSION_DENIED', 'Permission denied to image fd8image');
      await expectRefusal(refused('compute.images.listAccessBindings', image), 'PERMISSION_DENIED');
    });

    it('a folder to list or create in is denied, there or not; an operator is told', async () => {
      for (const id of [folder.id, 'b1gnone', '']) {
        for (const permission of ['compute.images.create', 'compute.images.list', 'iam.serviceAccounts.create'] as const) {
          await expectRefusal(refused(permission, { ...folder, id }), 'PERMISSION_DENIED', `Permission denied to folder ${id}`);
        }
      }
      await expectRefusal(
        refused('resource-manager.folders.create', cloud),
        'PERMISSION_DENIED',
        'Permission denied to cloud b1gcloud',
      );
      const operator = { id: ids.serviceAccountId, type: 'serviceAccount' };
      await expectRefusal(
        refused('compute.images.list', { ...folder, id: 'b1gnone' }, operator),
        'NOT_FOUND',
        'Folder b1gnone not found',
      );
      await expectRefusal(refused('compute.images.list', folder, operator), 'PERMISSION_DENIED');
    });

    it('nobody is unauthenticated', async () => {
      await expectRefusal(authorize({ ...call(), subject: undefined }, 'compute.images.get', image), 'UNAUTHENTICATED');
    });

    it('notes what was allowed, to ask for it again', async () => {
      await bind(folder, ['compute.editor', someone]);
      const asking = call();
      await authorize(asking, 'compute.images.create', folder);
      await fork().transactional((em) => authorizeIn(em, asking, 'compute.images.use', image));
      expect(asking.grants.map(({ permission }) => permission)).to.deep.equal(['compute.images.create', 'compute.images.use']);
      const gone = `Service account ${someone.id} may not act any more: it is suspended, has expired or is gone`;
      await expectRefusal(assertStillGranted(control(), someone, asking.grants), 'PERMISSION_DENIED', gone);
      const em = fork();
      const account = { folderId: folder.id, createdAt: new Date(), name: 'some', description: '', labels: {} };
      em.create(ServiceAccount, { ...account, id: someone.id, status: 'ACTIVE' });
      await em.flush();
      await assertStillGranted(control(), someone, asking.grants);
      const past = new Date(Date.now() - 1_000);
      const changes: Partial<ServiceAccount>[] = [
        { status: 'SUSPENDED' },
        { suspendedUntil: new Date(Date.now() + 3_600_000) },
        { status: 'ACTIVE', suspendedUntil: null, expiresAt: past },
      ];
      for (const change of changes) {
        await fork().nativeUpdate(ServiceAccount, { id: someone.id }, change);
        await expectRefusal(assertStillGranted(control(), someone, asking.grants), 'PERMISSION_DENIED', gone);
      }
      await fork().nativeUpdate(
        ServiceAccount,
        { id: someone.id },
        { status: 'SUSPENDED', suspendedUntil: past, expiresAt: null },
      );
      await assertStillGranted(control(), someone, asking.grants);
      await bind(folder, ['compute.images.user', someone]);
      await expectRefusal(
        assertStillGranted(control(), someone, asking.grants),
        'PERMISSION_DENIED',
        'Permission denied to folder b1gown',
      );
    });
  });
});
