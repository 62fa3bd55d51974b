// The roles that can be bound, and what each of them allows: the one place where that is decided. docs/access.md is made from this table
// (scripts/access-doc.ts). Sources: facts, sections 5.1 and 5.2; where they are silent the least was chosen, and docs/access.md says so.
import { type Permission, permissions } from './permissions.ts';

type Pattern = string;

/** The permissions that match `<service>.<resources>.<verb>`, where each part is a name, several as `a|b`, or `*`. */
function allow(...patterns: Pattern[]): readonly Permission[] {
  const found = permissions.filter((permission) => patterns.some((pattern) => matches(permission, pattern)));
  for (const pattern of patterns) {
    if (!permissions.some((permission) => matches(permission, pattern))) throw new Error(`no permission matches ${pattern}`);
  }
  return found;
}

function matches(permission: Permission, pattern: Pattern): boolean {
  const names = permission.split('.');
  return pattern.split('.').every((part, index) => part === '*' || part.split('|').includes(names[index]!));
}

const reading = 'get|list|listOperations|listSnapshotSchedules|listSnapshots|listDisks';
const changing = 'create|update|delete|use|attach|move|relocate|updateDisks|enable|disable';

/** Whoever has a role in a folder or a cloud may see that folder or cloud. */
const place = allow('resource-manager.clouds|folders.get');
const quotas = allow('quota-manager.quotaLimits.*');

const computeAuditor = [...allow(`compute.*.${reading}`), ...place];
const computeViewer = [...computeAuditor, ...allow('compute.*.listAccessBindings')];
const computeEditor = [...computeViewer, ...allow(`compute.*.${changing}`, 'compute.operations.cancel')];
const computeAdmin = [...computeEditor, ...allow('compute.*.setAccessBindings|updateAccessBindings')];

const managerAuditor = allow('resource-manager.*.get|list|listOperations');
const managerViewer = [...managerAuditor, ...allow('resource-manager.*.listAccessBindings')];
const managerEditor = [
  ...managerViewer,
  ...allow('resource-manager.folders.create|update|delete', 'resource-manager.clouds.update'),
];
const managerAdmin = [
  ...managerEditor,
  ...allow('resource-manager.*.setAccessBindings|updateAccessBindings', 'resource-manager.clouds.delete'),
];

const iamAuditor = [...allow('iam.*.get|list|listOperations'), ...place];
const iamViewer = [...iamAuditor, ...allow('iam.serviceAccounts.listAccessBindings')];
// No keys and no tokens: whoever makes those acts as the account, with roles that may be larger than his own. And no suspension to end:
// whoever has stolen the key of an account that was suspended for that must not bring it back by a smaller role.
const iamEditor = [...iamViewer, ...allow('iam.serviceAccounts.create|update|delete')];
const iamAdmin = [...iamEditor, ...allow('iam.serviceAccounts.*', 'iam.keys.*')];

const everything = [...permissions];

const table = {
  auditor: [...computeAuditor, ...managerAuditor, ...iamAuditor, ...quotas],
  // `compute.images.use`: with `viewer` on a folder its images can be copied elsewhere (facts, section 5.1).
  viewer: [...computeViewer, ...managerViewer, ...iamViewer, ...quotas, ...allow('compute.images.use')],
  editor: [...computeEditor, ...managerEditor, ...iamEditor, ...quotas],
  admin: everything,
  'compute.auditor': [...computeAuditor, ...quotas],
  'compute.viewer': [...computeViewer, ...quotas],
  // Starting and stopping machines is what it adds; there are none here.
  'compute.operator': [...computeViewer, ...quotas],
  'compute.images.user': [...allow('compute.images.get|list|use'), ...place],
  'compute.disks.user': [...allow('compute.disks.get|list|use'), ...place],
  'compute.snapshotSchedules.viewer': [...allow(`compute.snapshotSchedules.${reading}|listAccessBindings`), ...place],
  'compute.snapshotSchedules.editor': [
    ...allow(`compute.snapshotSchedules.${reading}|listAccessBindings|${changing}`, 'compute.snapshots.get|list|create|delete'),
    ...allow('compute.disks.get|list|use', 'compute.operations.get'),
    ...place,
  ],
  'compute.editor': [...computeEditor, ...quotas],
  'compute.admin': [...computeAdmin, ...quotas],
  'resource-manager.auditor': managerAuditor,
  'resource-manager.viewer': managerViewer,
  'resource-manager.editor': managerEditor,
  'resource-manager.admin': managerAdmin,
  'resource-manager.clouds.member': allow('resource-manager.clouds.get'),
  'resource-manager.clouds.owner': everything,
  'iam.auditor': iamAuditor,
  'iam.viewer': iamViewer,
  'iam.editor': iamEditor,
  'iam.admin': iamAdmin,
  'iam.serviceAccounts.user': [...allow('iam.serviceAccounts.get|list'), ...place],
  'iam.serviceAccounts.admin': [
    ...iamEditor,
    ...allow('iam.serviceAccounts.suspend|reactivate|setAccessBindings|updateAccessBindings|revokeToken', 'iam.keys.*'),
  ],
  'iam.serviceAccounts.keyAdmin': [...allow('iam.serviceAccounts.get|list', 'iam.keys.*'), ...place],
  'iam.serviceAccounts.tokenCreator': [...allow('iam.serviceAccounts.get|list|createToken'), ...place],
  'quota-manager.viewer': [...quotas, ...place],
} as const satisfies Record<string, readonly Permission[]>;

export type Role = keyof typeof table;

export const roles = Object.keys(table) as Role[];

const granted = new Map<string, ReadonlySet<Permission>>(roles.map((role) => [role, new Set<Permission>(table[role])]));

export const isRole = (name: string): name is Role => granted.has(name);

const none: ReadonlySet<Permission> = new Set();

/** What the role allows; a role that is not known allows nothing. */
export const permissionsOf = (role: string): ReadonlySet<Permission> => granted.get(role) ?? none;

const holders = new Map<Permission, readonly Role[]>(
  permissions.map((permission) => [permission, roles.filter((role) => permissionsOf(role).has(permission))]),
);

/** The roles that allow it. */
export const rolesWith = (permission: Permission): readonly Role[] => holders.get(permission)!;
