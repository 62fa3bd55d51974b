// The matrix as data: for each method what it needs, what it is about, a request that changes nothing that other calls rely on, and how it
// ends for who is allowed. A method of the server that has no row here fails the suite (matrix.spec.ts).
import type { Permission } from '../../../src/iam/permissions.ts';
import type { Code } from '../../../src/platform/errors.ts';
import { family, takenName, type Place, type Target, type TargetKind, type World } from './world.ts';

/** What of the target a method names: who has no role on it is answered by that. */
export type Named = TargetKind | 'operation';

export interface Row {
  /** Full name; more than one row may be about one method. */
  method: string;
  /** Tells rows of one method apart. */
  about?: string;
  /** None: every caller with a good token is allowed (`open`: without one as well). */
  permission?: Permission;
  open?: true;
  /** What the request names, and whether it is addressed itself (`NOT_FOUND` when hidden) or as what something lies in. */
  names?: Named;
  isParent?: true;
  request: (target: Target, world: World) => object;
  /** How an allowed call ends. Default: well. */
  allowed?: { code: Code; text?: RegExp };
  /** It takes what it names away: each allowed call gets one of its own. */
  takesAway?: TargetKind;
  /** A list that shows what is shared one by one to who has no role on the folder, by that permission. */
  showsShared?: { at: Place; permission: Permission; items: string; one: (target: Target) => string };
  /** Nobody has implemented it. */
  unimplemented?: true;
}

const compute = 'yandex.cloud.compute.v1';
const manager = 'yandex.cloud.resourcemanager.v1';
const iam = 'yandex.cloud.iam.v1';

const taken = { code: 'ALREADY_EXISTS' } as const;
const mask = { updateMask: ['description'], description: '' };
const page = { pageSize: 1n };

/** To set what is set already. */
const same = (world: World, kind: 'image' | 'disk' | 'snapshot' | 'account' | 'folder' | 'cloud', target: Target) => {
  const resource = {
    image: { kind: 'compute.image', id: target.imageId },
    disk: { kind: 'compute.disk', id: target.diskId },
    snapshot: { kind: 'compute.snapshot', id: target.snapshotId },
    account: { kind: 'iam.serviceAccount', id: target.accountId },
    folder: { kind: 'resource-manager.folder', id: target.folderId },
    cloud: { kind: 'resource-manager.cloud', id: target.cloudId },
  } as const;
  return world.bindingsOf(resource[kind]).map(({ roleId, subject }) => ({ roleId, subject }));
};

const nothingNew = [{ action: 2, accessBinding: { roleId: 'viewer', subject: { id: 'ajenobody', type: 'serviceAccount' } } }];

/** The rows that all kinds of resources share. */
function common(
  kind: 'image' | 'disk' | 'snapshot',
  service: string,
  permissions: 'compute.images' | 'compute.disks' | 'compute.snapshots',
): Row[] {
  const id = (target: Target): string => target[`${kind}Id`];
  const named = (target: Target) => ({ [`${kind}Id`]: id(target) });
  return [
    { method: `${service}/Get`, permission: `${permissions}.get`, names: kind, request: named },
    {
      method: `${service}/List`,
      permission: `${permissions}.list`,
      names: 'folder',
      isParent: true,
      request: ({ folderId }) => ({ folderId, ...page }),
      showsShared: { at: 'shared', permission: `${permissions}.list`, items: `${kind}s`, one: id },
    },
    {
      method: `${service}/Update`,
      permission: `${permissions}.update`,
      names: kind,
      request: (target) => ({ ...named(target), ...mask }),
    },
    { method: `${service}/Delete`, permission: `${permissions}.delete`, names: kind, request: named, takesAway: kind },
    { method: `${service}/ListOperations`, permission: `${permissions}.listOperations`, names: kind, request: named },
    ...bindings(kind, service, permissions, id),
  ];
}

function bindings(
  kind: 'image' | 'disk' | 'snapshot' | 'account' | 'folder' | 'cloud',
  service: string,
  permissions:
    | 'compute.images'
    | 'compute.disks'
    | 'compute.snapshots'
    | 'iam.serviceAccounts'
    | 'resource-manager.folders'
    | 'resource-manager.clouds',
  id: (target: Target) => string,
): Row[] {
  return [
    {
      method: `${service}/ListAccessBindings`,
      permission: `${permissions}.listAccessBindings`,
      names: kind,
      request: (target) => ({ resourceId: id(target) }),
    },
    {
      method: `${service}/SetAccessBindings`,
      permission: `${permissions}.setAccessBindings`,
      names: kind,
      request: (target, world) => ({ resourceId: id(target), accessBindings: same(world, kind, target) }),
    },
    {
      method: `${service}/UpdateAccessBindings`,
      permission: `${permissions}.updateAccessBindings`,
      names: kind,
      request: (target) => ({ resourceId: id(target), accessBindingDeltas: nothingNew }),
    },
  ];
}

const images = `${compute}.ImageService`;
const disks = `${compute}.DiskService`;
const snapshots = `${compute}.SnapshotService`;
const diskSize = 64n * 1024n * 1024n;
const newDisk = { name: takenName, zoneId: 'ru-central1-a', size: diskSize };

const computeRows: Row[] = [
  ...common('image', images, 'compute.images'),
  {
    method: `${images}/GetLatestByFamily`,
    permission: 'compute.images.get',
    names: 'folder',
    isParent: true,
    request: ({ folderId }) => ({ folderId, family }),
    showsShared: { at: 'shared', permission: 'compute.images.get', items: '', one: ({ imageId }) => imageId },
  },
  {
    method: `${images}/Create`,
    about: 'in a folder',
    permission: 'compute.images.create',
    names: 'folder',
    isParent: true,
    request: ({ folderId }) => ({ folderId, source: { $case: 'uri', value: 'gopher://example.com/x' } }),
    allowed: { code: 'INVALID_ARGUMENT', text: /^uri/ },
  },
  ...(['image', 'disk', 'snapshot'] as const).map((kind): Row => ({
    method: `${images}/Create`,
    about: `from a ${kind}`,
    permission: `compute.${kind}s.use`,
    names: kind,
    request: (target, { workshop: { folderId } }) => ({
      folderId,
      name: takenName,
      source: { $case: `${kind}Id`, value: target[`${kind}Id`] },
    }),
    allowed: taken,
  })),
  ...common('disk', disks, 'compute.disks'),
  {
    method: `${disks}/Create`,
    about: 'in a folder',
    permission: 'compute.disks.create',
    names: 'folder',
    isParent: true,
    request: ({ folderId }) => ({ ...newDisk, folderId }),
    allowed: taken,
  },
  ...(['image', 'snapshot'] as const).map((kind): Row => ({
    method: `${disks}/Create`,
    about: `of ${kind === 'image' ? 'an image' : 'a snapshot'}`,
    permission: `compute.${kind}s.use`,
    names: kind,
    request: (target, { workshop: { folderId } }) => ({
      ...newDisk,
      folderId,
      source: { $case: `${kind}Id`, value: target[`${kind}Id`] },
    }),
    allowed: taken,
  })),
  {
    method: `${disks}/Move`,
    permission: 'compute.disks.move',
    names: 'disk',
    request: ({ diskId }, { workshop }) => ({ diskId, destinationFolderId: workshop.folderId }),
    allowed: { code: 'FAILED_PRECONDITION', text: /can be moved within cloud/ },
  },
  {
    method: `${disks}/Move`,
    about: 'into a folder',
    permission: 'compute.disks.create',
    names: 'folder',
    isParent: true,
    request: ({ folderId }, { workshop }) => ({ diskId: workshop.diskId, destinationFolderId: folderId }),
    allowed: { code: 'FAILED_PRECONDITION', text: /can be moved within cloud/ },
  },
  {
    method: `${disks}/Relocate`,
    permission: 'compute.disks.relocate',
    names: 'disk',
    request: ({ diskId }) => ({ diskId, destinationZoneId: 'ru-central1-a' }),
  },
  {
    method: `${disks}/ListSnapshotSchedules`,
    permission: 'compute.disks.listSnapshotSchedules',
    names: 'disk',
    request: ({ diskId }) => ({ diskId }),
  },
  ...common('snapshot', snapshots, 'compute.snapshots'),
  {
    method: `${snapshots}/Create`,
    about: 'in a folder',
    permission: 'compute.snapshots.create',
    names: 'folder',
    isParent: true,
    request: ({ folderId }, { workshop }) => ({ folderId, name: takenName, diskId: workshop.diskId }),
    allowed: taken,
  },
  {
    method: `${snapshots}/Create`,
    about: 'of a disk',
    permission: 'compute.disks.use',
    names: 'disk',
    request: ({ diskId }, { workshop: { folderId } }) => ({ folderId, name: takenName, diskId }),
    allowed: taken,
  },
  { method: `${compute}.DiskTypeService/Get`, request: () => ({ diskTypeId: 'network-hdd' }) },
  { method: `${compute}.DiskTypeService/List`, request: () => ({}) },
  { method: `${compute}.ZoneService/Get`, request: () => ({ zoneId: 'ru-central1-a' }) },
  { method: `${compute}.ZoneService/List`, request: () => ({}) },
  ...[
    'Get',
    'List',
    'Create',
    'Update',
    'Delete',
    'UpdateDisks',
    'Disable',
    'Enable',
    'ListOperations',
    'ListSnapshots',
    'ListDisks',
    'ListAccessBindings',
    'SetAccessBindings',
    'UpdateAccessBindings',
  ].map((name): Row => ({ method: `${compute}.SnapshotScheduleService/${name}`, request: () => ({}), unimplemented: true })),
];

const attachRows: Row[] = [
  ...(['image', 'disk', 'snapshot'] as const).map((kind): Row => ({
    method: 'obraz.v1.AttachService/CreateTicket',
    about: `to read a ${kind}`,
    permission: `compute.${kind}s.use`,
    names: kind,
    request: (target) => ({ resourceId: target[`${kind}Id`], mode: 2 }),
  })),
  {
    method: 'obraz.v1.AttachService/CreateTicket',
    about: 'to write a disk',
    permission: 'compute.disks.attach',
    names: 'disk',
    request: ({ diskId }) => ({ resourceId: diskId, mode: 1 }),
  },
  { method: 'obraz.v1.AttachService/ListSessions', request: () => ({}) },
];

const operationRows: Row[] = [
  {
    method: 'yandex.cloud.operation.OperationService/Get',
    permission: 'compute.operations.get',
    names: 'operation',
    request: ({ operationId }) => ({ operationId }),
  },
  {
    method: 'yandex.cloud.operation.OperationService/Cancel',
    permission: 'compute.operations.cancel',
    names: 'operation',
    request: ({ operationId }) => ({ operationId }),
  },
  ...['Get', 'Watch'].map((name): Row => ({
    method: `obraz.v1.ProgressService/${name}`,
    permission: 'compute.operations.get',
    names: 'operation',
    request: ({ operationId }) => ({ operationId }),
  })),
];

const cloudType = 'resource-manager.cloud';

const quotaRows: Row[] = [
  {
    method: 'yandex.cloud.quotamanager.v1.QuotaLimitService/Get',
    permission: 'quota-manager.quotaLimits.get',
    names: 'cloud',
    isParent: true,
    request: ({ cloudId }) => ({ resource: { id: cloudId, type: cloudType }, quotaId: 'compute.images.count' }),
  },
  {
    method: 'yandex.cloud.quotamanager.v1.QuotaLimitService/List',
    permission: 'quota-manager.quotaLimits.list',
    names: 'cloud',
    isParent: true,
    request: ({ cloudId }) => ({ resource: { id: cloudId, type: cloudType }, service: 'compute' }),
  },
  { method: 'yandex.cloud.quotamanager.v1.QuotaLimitService/ListServices', request: () => ({ resourceType: cloudType }) },
];

/** What only operators may do, who have a role on the system cloud. */
const operator = (method: string, permission: Permission, request: Row['request']): Row => ({
  method,
  permission,
  names: 'cloud',
  isParent: true,
  request,
  about: 'the installation',
});

const operatorRows: Row[] = [
  operator('obraz.v1.AuditService/Tail', 'obraz.audit.read', () => ({ count: 1n })),
  operator('obraz.v1.MaintenanceService/CollectGarbage', 'obraz.storage.collectGarbage', () => ({ dryRun: true })),
  operator('obraz.v1.MaintenanceService/Scrub', 'obraz.storage.scrub', () => ({})),
  operator('obraz.v1.QuotaAdminService/SetLimit', 'obraz.quotas.setLimit', ({ cloudId }) => ({
    cloudId,
    quotaId: 'compute.images.count',
    limit: { $case: 'reset', value: {} },
  })),
];

const openRows: Row[] = [
  { method: 'yandex.cloud.endpoint.ApiEndpointService/Get', open: true, request: () => ({ apiEndpointId: 'compute' }) },
  { method: 'yandex.cloud.endpoint.ApiEndpointService/List', open: true, request: () => ({}) },
  {
    method: `${iam}.IamTokenService/Create`,
    open: true,
    request: () => ({ identity: { $case: 'jwt', value: 'x' } }),
    allowed: { code: 'UNAUTHENTICATED' },
  },
];

const accounts = `${iam}.ServiceAccountService`;
const keys = `${iam}.KeyService`;
const folders = `${manager}.FolderService`;
const clouds = `${manager}.CloudService`;

const namedAccount = ({ accountId }: Target) => ({ serviceAccountId: accountId });
const namedKey = ({ keyId }: Target) => ({ keyId });

const accountRows: Row[] = [
  { method: `${accounts}/Get`, permission: 'iam.serviceAccounts.get', names: 'account', request: namedAccount },
  {
    method: `${accounts}/List`,
    permission: 'iam.serviceAccounts.list',
    names: 'folder',
    isParent: true,
    request: ({ folderId }) => ({ folderId, ...page }),
    showsShared: {
      at: 'shared',
      permission: 'iam.serviceAccounts.list',
      items: 'serviceAccounts',
      one: ({ accountId }) => accountId,
    },
  },
  {
    method: `${accounts}/Create`,
    permission: 'iam.serviceAccounts.create',
    names: 'folder',
    isParent: true,
    request: ({ folderId }) => ({ folderId, name: takenName }),
    allowed: taken,
  },
  {
    method: `${accounts}/Update`,
    permission: 'iam.serviceAccounts.update',
    names: 'account',
    request: (target) => ({ ...namedAccount(target), ...mask }),
  },
  {
    method: `${accounts}/Delete`,
    permission: 'iam.serviceAccounts.delete',
    names: 'account',
    request: namedAccount,
    takesAway: 'account',
  },
  {
    method: `${accounts}/Suspend`,
    permission: 'iam.serviceAccounts.suspend',
    names: 'account',
    request: namedAccount,
    takesAway: 'account',
  },
  { method: `${accounts}/Reactivate`, permission: 'iam.serviceAccounts.reactivate', names: 'account', request: namedAccount },
  {
    method: `${accounts}/ListOperations`,
    permission: 'iam.serviceAccounts.listOperations',
    names: 'account',
    request: namedAccount,
  },
  ...bindings('account', accounts, 'iam.serviceAccounts', ({ accountId }) => accountId),
  {
    method: `${iam}.IamTokenService/CreateForServiceAccount`,
    permission: 'iam.serviceAccounts.createToken',
    names: 'account',
    request: namedAccount,
  },
  {
    method: `${iam}.IamTokenService/Revoke`,
    request: () => ({ iamToken: 'x' }),
    allowed: { code: 'INVALID_ARGUMENT', text: /^iam_token/ },
  },
  { method: `${keys}/Get`, permission: 'iam.keys.get', names: 'key', request: namedKey },
  { method: `${keys}/List`, permission: 'iam.keys.list', names: 'account', request: namedAccount },
  {
    method: `${keys}/Create`,
    permission: 'iam.keys.create',
    names: 'account',
    // As many as there can be are there: it is refused after it was allowed.
    request: namedAccount,
    allowed: { code: 'RESOURCE_EXHAUSTED', text: /^Service account .* has 10 keys/ },
  },
  {
    method: `${keys}/Update`,
    permission: 'iam.keys.update',
    names: 'key',
    request: (target) => ({ ...namedKey(target), ...mask }),
  },
  { method: `${keys}/Delete`, permission: 'iam.keys.delete', names: 'key', request: namedKey, takesAway: 'key' },
  { method: `${keys}/ListOperations`, permission: 'iam.keys.listOperations', names: 'key', request: namedKey },
];

const policies = ['ListAccessPolicyBindings', 'BindAccessPolicy', 'UnbindAccessPolicy', 'UpdateAccessPolicyBindingParameters'];

function placeMethods(kind: 'folder' | 'cloud'): Row[] {
  const service = kind === 'folder' ? folders : clouds;
  const permissions = `resource-manager.${kind}s` as const;
  const named = (target: Target) => ({ [`${kind}Id`]: target[`${kind}Id`] });
  return [
    { method: `${service}/Get`, permission: `${permissions}.get`, names: kind, request: named },
    {
      method: `${service}/Update`,
      permission: `${permissions}.update`,
      names: kind,
      request: (target) => ({ ...named(target), ...mask }),
    },
    { method: `${service}/Delete`, permission: `${permissions}.delete`, names: kind, request: named, takesAway: kind },
    { method: `${service}/ListOperations`, permission: `${permissions}.listOperations`, names: kind, request: named },
    ...bindings(kind, service, permissions, (target) => target[`${kind}Id`]),
    ...policies.map((name): Row => ({ method: `${service}/${name}`, request: () => ({}), unimplemented: true })),
  ];
}

const placeRows: Row[] = [
  ...placeMethods('folder'),
  ...placeMethods('cloud'),
  {
    method: `${folders}/List`,
    permission: 'resource-manager.folders.list',
    names: 'cloud',
    isParent: true,
    request: ({ cloudId }) => ({ cloudId, ...page }),
    // The folder of the public images is shared with everybody.
    showsShared: {
      at: 'public',
      permission: 'resource-manager.folders.get',
      items: 'folders',
      one: ({ folderId }) => folderId,
    },
  },
  {
    method: `${folders}/Create`,
    permission: 'resource-manager.folders.create',
    names: 'cloud',
    isParent: true,
    request: ({ cloudId }) => ({ cloudId, name: takenName }),
    allowed: taken,
  },
  { method: `${clouds}/List`, request: () => ({}) },
  operator(`${clouds}/Create`, 'resource-manager.clouds.create', (_target, { organizationId }) => ({
    organizationId,
    name: takenName,
  })),
];

const requestRows: Row[] = ['Get', 'List', 'Create', 'Cancel', 'ListOperations'].map((name) => ({
  method: `yandex.cloud.quotamanager.v1.QuotaRequestService/${name}`,
  request: () => ({}),
  unimplemented: true,
}));

export const rows: readonly Row[] = [
  ...computeRows,
  ...attachRows,
  ...operationRows,
  ...quotaRows,
  ...requestRows,
  ...operatorRows,
  ...accountRows,
  ...placeRows,
  ...openRows,
];
