// Which event a method leaves: the table of all methods that change something, implemented or not. What is not in it reads: it has a name
// that begins with Get, List, Watch or Tail (a test holds that against the descriptors). Types are named as the public service names
// them; what it has no name for is named alike.

/** What an event is about, as events name it. `table` is where its row lies, with `name` and (but for folders and clouds) `folder_id`. */
export interface AuditedKind {
  /** `compute.image`. */
  type: string;
  table?: 'images' | 'disks' | 'snapshots' | 'service_accounts' | 'folders' | 'clouds';
  /** `image`: details are told as imageId, imageName. */
  key: string;
}

export interface EventType {
  /** `yandex.cloud.audit.compute.CreateImage`. */
  name: string;
  /** `compute`. */
  source: string;
  kind: AuditedKind | undefined;
  /** It makes what it is about. */
  creates: boolean;
  /** Fields of the request that details tell under another name. */
  renamed: Readonly<Record<string, string>>;
}

interface AuditedService {
  prefix: string;
  source: string;
  kind?: AuditedKind;
  /** Method → the last part of the event's name. */
  events: Readonly<Record<string, string>>;
  renamed?: Readonly<Record<string, string>>;
}

const image: AuditedKind = { type: 'compute.image', table: 'images', key: 'image' };
const disk: AuditedKind = { type: 'compute.disk', table: 'disks', key: 'disk' };
const snapshot: AuditedKind = { type: 'compute.snapshot', table: 'snapshots', key: 'snapshot' };
const snapshotSchedule: AuditedKind = { type: 'compute.snapshotSchedule', key: 'snapshotSchedule' };
const folder: AuditedKind = { type: 'resource-manager.folder', table: 'folders', key: 'folder' };
const cloud: AuditedKind = { type: 'resource-manager.cloud', table: 'clouds', key: 'cloud' };
const serviceAccount: AuditedKind = { type: 'iam.serviceAccount', table: 'service_accounts', key: 'serviceAccount' };
const key: AuditedKind = { type: 'iam.key', key: 'key' };
const operation: AuditedKind = { type: 'operation', key: 'operation' };

const lifeOf = (noun: string) => ({ Create: `Create${noun}`, Update: `Update${noun}`, Delete: `Delete${noun}` });

const bindingsOf = (noun: string) => ({
  SetAccessBindings: `Set${noun}AccessBindings`,
  UpdateAccessBindings: `Update${noun}AccessBindings`,
});

const policiesOf = (noun: string) => ({
  BindAccessPolicy: `Bind${noun}AccessPolicy`,
  UnbindAccessPolicy: `Unbind${noun}AccessPolicy`,
  UpdateAccessPolicyBindingParameters: `Update${noun}AccessPolicyBindingParameters`,
});

const yandex = 'yandex.cloud.audit';

/** By full name of the service. */
const services: Readonly<Record<string, AuditedService>> = {
  'yandex.cloud.compute.v1.ImageService': {
    prefix: yandex,
    source: 'compute',
    kind: image,
    events: { ...lifeOf('Image'), ...bindingsOf('Image') },
    renamed: { imageId: 'sourceImageId', diskId: 'sourceDiskId', snapshotId: 'sourceSnapshotId', uri: 'sourceUri' },
  },
  'yandex.cloud.compute.v1.DiskService': {
    prefix: yandex,
    source: 'compute',
    kind: disk,
    events: { ...lifeOf('Disk'), Move: 'MoveDisk', Relocate: 'RelocateDisk', ...bindingsOf('Disk') },
    renamed: { imageId: 'sourceImageId', snapshotId: 'sourceSnapshotId' },
  },
  'yandex.cloud.compute.v1.SnapshotService': {
    prefix: yandex,
    source: 'compute',
    kind: snapshot,
    events: { ...lifeOf('Snapshot'), ...bindingsOf('Snapshot') },
    renamed: { diskId: 'sourceDiskId' },
  },
  'yandex.cloud.compute.v1.SnapshotScheduleService': {
    prefix: yandex,
    source: 'compute',
    kind: snapshotSchedule,
    events: {
      ...lifeOf('SnapshotSchedule'),
      UpdateDisks: 'UpdateSnapshotScheduleDisks',
      Disable: 'DisableSnapshotSchedule',
      Enable: 'EnableSnapshotSchedule',
      ...bindingsOf('SnapshotSchedule'),
    },
  },
  'yandex.cloud.resourcemanager.v1.FolderService': {
    prefix: yandex,
    source: 'resourcemanager',
    kind: folder,
    events: { ...lifeOf('Folder'), ...bindingsOf('Folder'), ...policiesOf('Folder') },
  },
  'yandex.cloud.resourcemanager.v1.CloudService': {
    prefix: yandex,
    source: 'resourcemanager',
    kind: cloud,
    events: { ...lifeOf('Cloud'), ...bindingsOf('Cloud'), ...policiesOf('Cloud') },
  },
  'yandex.cloud.iam.v1.ServiceAccountService': {
    prefix: yandex,
    source: 'iam',
    kind: serviceAccount,
    events: {
      ...lifeOf('ServiceAccount'),
      Suspend: 'SuspendServiceAccount',
      Reactivate: 'ReactivateServiceAccount',
      ...bindingsOf('ServiceAccount'),
    },
  },
  'yandex.cloud.iam.v1.KeyService': { prefix: yandex, source: 'iam', kind: key, events: lifeOf('Key') },
  'yandex.cloud.iam.v1.IamTokenService': {
    prefix: yandex,
    source: 'iam',
    events: {
      Create: 'CreateIamToken',
      CreateForServiceAccount: 'CreateIamTokenForServiceAccount',
      Revoke: 'RevokeIamToken',
    },
  },
  'yandex.cloud.operation.OperationService': {
    prefix: yandex,
    source: 'operation',
    kind: operation,
    events: { Cancel: 'CancelOperation' },
  },
  'yandex.cloud.quotamanager.v1.QuotaRequestService': {
    prefix: yandex,
    source: 'quotamanager',
    events: { Create: 'CreateQuotaRequest', Cancel: 'CancelQuotaRequest' },
  },
  'obraz.v1.AttachService': { prefix: 'obraz.audit', source: 'attach', events: { CreateTicket: 'CreateAttachTicket' } },
  'obraz.v1.QuotaAdminService': { prefix: 'obraz.audit', source: 'quotas', events: { SetLimit: 'SetQuotaLimit' } },
  'obraz.v1.MaintenanceService': {
    prefix: 'obraz.audit',
    source: 'storage',
    events: { CollectGarbage: 'CollectGarbage', Scrub: 'Scrub' },
  },
};

/** What an NBD client leaves that opens a disk for writing, and that lets go of it. */
export const attachDisk: EventType = {
  name: 'obraz.audit.attach.AttachDisk',
  source: 'attach',
  kind: disk,
  creates: false,
  renamed: {},
};
export const detachDisk: EventType = {
  name: 'obraz.audit.attach.DetachDisk',
  source: 'attach',
  kind: disk,
  creates: false,
  renamed: {},
};

/** By full name of the method. */
const byMethod: ReadonlyMap<string, EventType> = new Map(
  Object.entries(services).flatMap(([service, { prefix, source, kind, events, renamed }]) =>
    Object.entries(events).map(([method, event]) => [
      `${service}/${method}`,
      // Only a create has sources.
      {
        name: `${prefix}.${source}.${event}`,
        source,
        kind,
        creates: method === 'Create',
        renamed: method === 'Create' ? (renamed ?? {}) : {},
      },
    ]),
  ),
);

/** The event of a method by its full name, `yandex.cloud.compute.v1.ImageService/Create`; undefined for one that only reads. */
export const eventTypeOf = (method: string): EventType | undefined => byMethod.get(method);

/** Full names of all methods in the table. */
export const auditedMethods = (): string[] => [...byMethod.keys()];
