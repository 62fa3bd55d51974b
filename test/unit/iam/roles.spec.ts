import { expect } from 'chai';
import { parseBindings } from '../../../src/iam/access-bindings.mapper.ts';
import { type Permission, permissions } from '../../../src/iam/permissions.ts';
import { isAboutItself, seeing } from '../../../src/iam/resource.ts';
import { isRole, permissionsOf, type Role, roles, rolesWith } from '../../../src/iam/roles.ts';

// What the public documentation says of roles and images (facts, section 5.1), written out: the table must not drift from it.
const readers: Role[] = ['compute.auditor', 'compute.viewer', 'compute.operator', 'compute.editor', 'compute.admin'];
const facts: [Permission, readonly Role[]][] = [
  ['compute.images.get', [...readers, 'compute.images.user', 'auditor', 'viewer', 'editor']],
  ['compute.images.list', [...readers, 'compute.images.user', 'auditor', 'viewer', 'editor']],
  ['compute.images.listOperations', [...readers, 'auditor', 'viewer', 'editor']],
  [
    'compute.images.listAccessBindings',
    ['compute.viewer', 'compute.operator', 'compute.editor', 'compute.admin', 'viewer', 'editor'],
  ],
  ['compute.images.use', ['compute.images.user', 'compute.editor', 'compute.admin', 'viewer', 'editor']],
  ['compute.images.create', ['compute.editor', 'compute.admin', 'editor']],
  ['compute.images.update', ['compute.editor', 'compute.admin', 'editor']],
  ['compute.images.delete', ['compute.editor', 'compute.admin', 'editor']],
  ['compute.images.setAccessBindings', ['compute.admin']],
  ['compute.images.updateAccessBindings', ['compute.admin']],
  ['compute.disks.use', ['compute.disks.user', 'compute.snapshotSchedules.editor', 'compute.editor', 'compute.admin', 'editor']],
  ['compute.disks.attach', ['compute.editor', 'compute.admin', 'editor']],
  ['compute.snapshots.use', ['compute.editor', 'compute.admin', 'editor']],
  ['compute.snapshots.create', ['compute.snapshotSchedules.editor', 'compute.editor', 'compute.admin', 'editor']],
  ['compute.snapshots.delete', ['compute.snapshotSchedules.editor', 'compute.editor', 'compute.admin', 'editor']],
  ['compute.operations.cancel', ['compute.editor', 'compute.admin', 'editor']],
  ['resource-manager.folders.setAccessBindings', ['resource-manager.admin']],
  ['resource-manager.clouds.create', []],
  ['iam.keys.create', ['iam.admin', 'iam.serviceAccounts.admin', 'iam.serviceAccounts.keyAdmin']],
  ['iam.serviceAccounts.reactivate', ['iam.admin', 'iam.serviceAccounts.admin']],
  ['iam.serviceAccounts.createToken', ['iam.admin', 'iam.serviceAccounts.tokenCreator']],
  ['obraz.storage.collectGarbage', []],
  ['obraz.quotas.setLimit', []],
];

describe('Roles', () => {
  const everything: Role[] = ['admin', 'resource-manager.clouds.owner'];

  for (const [permission, holders] of facts) {
    it(`gives ${permission} to whom the public documentation gives it, and to nobody else`, () => {
      expect([...rolesWith(permission)].sort()).to.deep.equal([...holders, ...everything].sort());
    });
  }

  it('is each at most what it stands below', () => {
    const chains: Role[][] = [
      ['auditor', 'viewer', 'admin'],
      ['auditor', 'editor', 'admin'],
      ['compute.auditor', 'compute.viewer', 'compute.operator', 'compute.editor', 'compute.admin', 'admin'],
      ['resource-manager.auditor', 'resource-manager.viewer', 'resource-manager.editor', 'resource-manager.admin', 'admin'],
      ['iam.auditor', 'iam.viewer', 'iam.editor', 'iam.admin', 'admin'],
      ['compute.images.user', 'compute.editor'],
      ['compute.disks.user', 'compute.editor'],
      ['compute.snapshotSchedules.viewer', 'compute.snapshotSchedules.editor', 'compute.editor'],
    ];
    for (const chain of chains) {
      for (const [index, role] of chain.slice(1).entries()) {
        const missing = [...permissionsOf(chain[index]!)].filter((permission) => !permissionsOf(role).has(permission));
        expect(missing, `${chain[index]!} within ${role}`).to.deep.equal([]);
      }
    }
  });

  it('leaves no permission without a role, and no role without a permission', () => {
    for (const permission of permissions) expect(rolesWith(permission), permission).not.to.be.empty;
    for (const role of roles) expect([...permissionsOf(role)], role).not.to.be.empty;
  });

  it('are the ones that can be bound', () => {
    for (const roleId of roles) {
      expect(parseBindings([{ roleId, subject: { id: 'x', type: 'userAccount' } }])).to.have.length(1);
    }
    for (const name of ['', 'Admin', 'compute', 'toString', 'constructor', '__proto__']) {
      expect(isRole(name), name).to.equal(false);
      expect([...permissionsOf(name)], name).to.deep.equal([]);
    }
  });

  it('tells what is about a resource itself from what is about what lies in it', () => {
    expect(isAboutItself('compute.images.delete', 'compute.image')).to.equal(true);
    expect(isAboutItself('compute.images.create', 'resource-manager.folder')).to.equal(false);
    expect(isAboutItself('resource-manager.folders.list', 'resource-manager.cloud')).to.equal(false);
    expect(isAboutItself('resource-manager.folders.update', 'resource-manager.folder')).to.equal(true);
    expect(isAboutItself('iam.serviceAccounts.createToken', 'iam.serviceAccount')).to.equal(true);
    expect(isAboutItself('quota-manager.quotaLimits.get', 'resource-manager.cloud')).to.equal(false);
    expect(seeing('resource-manager.folder')).to.equal('resource-manager.folders.get');
  });
});
