// A service with one account for each role, and places that differ in what those roles are bound to. The rows are written beside the
// service, so that a matrix of thousands of calls needs no thousand creates.
//
//   own      a folder (and a cloud) on which each account has its role
//   foreign  a folder and a cloud where none of them has any
//   shared   a folder where none has any, whose resources are each bound to every account with its role
//   public   standard-images, in the system cloud
//   none     ids of nothing
//
// `workshop` is a folder in a cloud of its own where every account is compute.editor: what is made of a source elsewhere is made there.
import { generateKeyPairSync } from 'node:crypto';
import { type Client, Metadata, credentials, makeGenericClientConstructor } from '@grpc/grpc-js';
import type { EntityManager, MikroORM } from '@mikro-orm/postgresql';
import { IamTokenServiceClient } from '../../../generated/yandex/cloud/iam/v1/iam_token_service.ts';
import { defaultHardwareGeneration, defaultOs } from '../../../src/catalog/guest.ts';
import { maxKeysPerAccount } from '../../../src/authorized-keys/create.ts';
import { createOrm } from '../../../src/db/orm.ts';
import { Disk } from '../../../src/disks/disk.entity.ts';
import { entities } from '../../../src/entities.ts';
import { type Binding, setBindings } from '../../../src/iam/access-bindings.ts';
import { AuthorizedKey } from '../../../src/iam/authorized-key.entity.ts';
import { Cloud } from '../../../src/iam/hierarchy/cloud.entity.ts';
import { Folder } from '../../../src/iam/hierarchy/folder.entity.ts';
import type { Resource, ResourceKind } from '../../../src/iam/resource.ts';
import { type Role, roles } from '../../../src/iam/roles.ts';
import { ServiceAccount } from '../../../src/iam/service-account.entity.ts';
import { Image } from '../../../src/images/image.entity.ts';
import { Operation } from '../../../src/operations/operation.entity.ts';
import { newId } from '../../../src/platform/ids.ts';
import { Snapshot } from '../../../src/snapshots/snapshot.entity.ts';
import { unary } from '../../support/client.ts';
import { Obraz, type ObrazOptions } from '../../support/obraz.ts';
import { type TestDatabase, testDatabase } from '../../support/postgres.ts';

export const places = ['own', 'foreign', 'shared', 'public', 'none'] as const;
export type Place = (typeof places)[number];

/** What a call of the matrix is about, in one place. */
export interface Target {
  cloudId: string;
  folderId: string;
  imageId: string;
  diskId: string;
  snapshotId: string;
  accountId: string;
  keyId: string;
  operationId: string;
}

export type TargetKind = 'image' | 'disk' | 'snapshot' | 'account' | 'key' | 'folder' | 'cloud';

/** The name that something of every kind has in every folder: a create of that name is refused after it was allowed. */
export const takenName = 'taken';
export const family = 'matrix';
const publicKey = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ type: 'spki', format: 'pem' }) as string;
const size = 64 * 1024 * 1024;

const unknown = (kind: 'cloud' | 'folder' | 'image' | 'disk' | 'snapshot' | 'serviceAccount' | 'operation' | 'key'): string =>
  newId(kind);

export class World implements AsyncDisposable {
  readonly targets = new Map<Place, Target>();
  workshop!: Target;
  systemCloudId = '';
  organizationId = '';
  /** The account that has a role everywhere but on the places: `undefined` is the one without any role. */
  readonly accounts = new Map<Role | undefined, string>();
  readonly #metadata = new Map<Role | undefined, Metadata>();
  readonly obraz: Obraz;
  readonly client: Client;
  readonly adminMetadata: Metadata;
  readonly orm: MikroORM;
  readonly #database: TestDatabase;
  readonly #bindings = new Map<string, Binding[]>();

  private constructor(parts: { obraz: Obraz; client: Client; adminMetadata: Metadata; orm: MikroORM; database: TestDatabase }) {
    this.obraz = parts.obraz;
    this.client = parts.client;
    this.adminMetadata = parts.adminMetadata;
    this.orm = parts.orm;
    this.#database = parts.database;
  }

  static async make(options: ObrazOptions = {}): Promise<World> {
    await using undo = new AsyncDisposableStack();
    const database = await testDatabase();
    undo.defer(() => database.dispose());
    const environment = { ...options.environment, DATABASE_URL: database.url };
    const obraz = undo.use(await Obraz.start({ ...options, environment }));
    const { addresses } = await obraz.bootstrap();
    const adminMetadata = bearer(await obraz.token());
    const AnyClient = makeGenericClientConstructor({}, 'any');
    const client = new AnyClient(addresses.grpc, credentials.createInsecure()) as unknown as Client;
    undo.defer(() => client.close());
    const orm = await createOrm({ url: database.url, entities, poolSize: 4 });
    undo.defer(() => orm.close(true));
    const world = new World({ obraz, client, adminMetadata, orm, database });
    await world.#fill(addresses.grpc);
    undo.move();
    return world;
  }

  /** The token of the account with that role; of the one without any for undefined. */
  metadata(role: Role | undefined): Metadata {
    return this.#metadata.get(role)!;
  }

  /** All bindings of a resource: to set these changes nothing. */
  bindingsOf({ kind, id }: Pick<Resource, 'kind' | 'id'>): readonly Binding[] {
    return this.#bindings.get(`${kind}/${id}`) ?? [];
  }

  em(): EntityManager {
    return this.orm.em.fork();
  }

  async #fill(address: string): Promise<void> {
    const em = this.em();
    const system = await em.findOneOrFail(Cloud, { system: true });
    this.systemCloudId = system.id;
    this.organizationId = system.organizationId;
    const home = this.#folder(em, this.#cloud(em, 'home'), 'home');
    for (const role of [undefined, ...roles]) {
      this.accounts.set(role, this.#account(em, home, role === undefined ? 'without' : role.replaceAll('.', '-').toLowerCase()));
    }
    for (const place of ['own', 'foreign', 'shared'] as const) {
      const cloudId = this.#cloud(em, place);
      this.targets.set(place, this.#contents(em, cloudId, this.#folder(em, cloudId, place)));
    }
    const ownCloud = this.#cloud(em, 'own-cloud');
    for (const cloudId of [ownCloud, ...[...this.targets.values()].map((target) => target.cloudId), system.id]) {
      this.#folder(em, cloudId, takenName);
    }
    this.targets.get('own')!.cloudId = ownCloud;
    this.targets.set('public', this.#contents(em, system.id, 'standard-images'));
    const workshopCloud = this.#cloud(em, 'workshop');
    this.workshop = this.#contents(em, workshopCloud, this.#folder(em, workshopCloud, 'workshop'));
    this.targets.set('none', {
      cloudId: unknown('cloud'),
      folderId: unknown('folder'),
      imageId: unknown('image'),
      diskId: unknown('disk'),
      snapshotId: unknown('snapshot'),
      accountId: unknown('serviceAccount'),
      keyId: unknown('key'),
      operationId: unknown('operation'),
    });
    await em.flush();
    const own = this.targets.get('own')!;
    const roleOfEach = roles.map((roleId) => this.#binding(roleId, this.accounts.get(roleId)!));
    await this.bind({ kind: 'resource-manager.cloud', id: ownCloud }, roleOfEach);
    await this.bind({ kind: 'resource-manager.folder', id: own.folderId }, roleOfEach);
    await this.share(this.targets.get('shared')!);
    const editors = [...this.accounts.values()].map((id) => this.#binding('compute.editor', id));
    await this.bind({ kind: 'resource-manager.folder', id: this.workshop.folderId }, editors);
    await this.#signIn(address);
  }

  #binding = (roleId: string, id: string): Binding => ({ roleId, subject: { id, type: 'serviceAccount' } });

  async bind(resource: Pick<Resource, 'kind' | 'id'>, bindings: Binding[]): Promise<void> {
    await this.em().transactional((em) => setBindings(em, resource, bindings));
    this.#bindings.set(`${resource.kind}/${resource.id}`, bindings);
  }

  /** Binds its role to each account on every resource of the target. */
  async share({ imageId, diskId, snapshotId, accountId }: Partial<Target>): Promise<void> {
    const roleOfEach = roles.map((roleId) => this.#binding(roleId, this.accounts.get(roleId)!));
    const resources: [ResourceKind, string | undefined][] = [
      ['compute.image', imageId],
      ['compute.disk', diskId],
      ['compute.snapshot', snapshotId],
      ['iam.serviceAccount', accountId],
    ];
    for (const [kind, id] of resources) if (id !== undefined) await this.bind({ kind, id }, roleOfEach);
  }

  /** One more of a kind in the place, for a call that takes it away. Answers the target with it. */
  async fresh(kind: TargetKind, place: Place): Promise<Target> {
    const target = { ...this.targets.get(place)! };
    const em = this.em();
    const { folderId, cloudId } = target;
    const made: Partial<Target> = {};
    if (kind === 'image') made.imageId = this.#image(em, folderId, '');
    if (kind === 'disk') made.diskId = this.#disk(em, folderId, '');
    if (kind === 'snapshot') made.snapshotId = this.#snapshot(em, folderId, '');
    if (kind === 'key') made.keyId = this.#key(em, target.accountId);
    if (kind === 'account') made.accountId = this.#account(em, folderId, newId('serviceAccount'));
    if (kind === 'folder') made.folderId = this.#folder(em, cloudId, newId('folder'));
    if (kind === 'cloud') made.cloudId = this.#cloud(em, newId('cloud'));
    await em.flush();
    Object.assign(target, made);
    if (place === 'shared') await this.share(made);
    if (place === 'own') {
      const roleOfEach = roles.map((roleId) => this.#binding(roleId, this.accounts.get(roleId)!));
      if (kind === 'folder') await this.bind({ kind: 'resource-manager.folder', id: target.folderId }, roleOfEach);
      if (kind === 'cloud') await this.bind({ kind: 'resource-manager.cloud', id: target.cloudId }, roleOfEach);
    }
    return target;
  }

  async #signIn(address: string): Promise<void> {
    const home = (await this.em().findOneOrFail(Folder, { name: 'home' })).id;
    const { service_account_id: adminId } = await this.obraz.bootstrap();
    await this.bind({ kind: 'resource-manager.folder', id: home }, [this.#binding('iam.serviceAccounts.tokenCreator', adminId)]);
    const tokens = new IamTokenServiceClient(address, credentials.createInsecure());
    for (const [role, serviceAccountId] of this.accounts) {
      const { iamToken } = await unary(tokens, tokens.createForServiceAccount, { serviceAccountId }, this.adminMetadata);
      this.#metadata.set(role, bearer(iamToken));
    }
    tokens.close();
  }

  #contents(em: EntityManager, cloudId: string, folderId: string): Target {
    const imageId = this.#image(em, folderId, takenName);
    const operationId = newId('operation');
    const now = new Date();
    em.create(Operation, {
      id: operationId,
      folderId,
      resourceId: imageId,
      resourceKind: 'compute.image',
      description: 'Create image',
      createdAt: now,
      modifiedAt: now,
      createdBy: 'ajesomebodyelse',
      metadataType: 'type.googleapis.com/google.protobuf.Empty',
      metadata: new Uint8Array(),
      done: true,
      error: null,
      responseType: 'type.googleapis.com/google.protobuf.Empty',
      response: new Uint8Array(),
      cancellable: true,
      cancelRequestedAt: null,
      bytesDone: 0,
      bytesTotal: 0,
      bytesPerSecond: 0,
      phase: 'done',
    });
    const accountId = this.#account(em, folderId, takenName);
    const keyIds = Array.from({ length: maxKeysPerAccount }, () => this.#key(em, accountId));
    return {
      cloudId,
      folderId,
      imageId,
      diskId: this.#disk(em, folderId, takenName),
      snapshotId: this.#snapshot(em, folderId, takenName),
      accountId,
      keyId: keyIds[0]!,
      operationId,
    };
  }

  #cloud(em: EntityManager, name: string): string {
    const id = newId('cloud');
    em.create(Cloud, { ...described(), id, organizationId: this.organizationId, name, system: false });
    return id;
  }

  #folder(em: EntityManager, cloudId: string, name: string): string {
    const id = newId('folder');
    em.create(Folder, { ...described(), id, cloudId, name, status: 'ACTIVE' });
    return id;
  }

  #account(em: EntityManager, folderId: string, name: string): string {
    const id = newId('serviceAccount');
    em.create(ServiceAccount, { ...described(), id, folderId, name, status: 'ACTIVE' });
    return id;
  }

  #key(em: EntityManager, serviceAccountId: string): string {
    const id = newId('key');
    const key = { id, serviceAccountId, createdAt: new Date(), description: '', keyAlgorithm: 'RSA_2048', publicKey } as const;
    em.create(AuthorizedKey, key);
    return id;
  }

  #image(em: EntityManager, folderId: string, name: string): string {
    const id = newId('image');
    const sizes = { size, storageSize: 0, minDiskSize: size };
    em.create(Image, { ...stored(folderId, name), ...sizes, id, family, pooled: false });
    return id;
  }

  #disk(em: EntityManager, folderId: string, name: string): string {
    const id = newId('disk', 'ru-central1-a');
    em.create(Disk, {
      ...stored(folderId, name),
      id,
      size,
      typeId: 'network-hdd',
      zoneId: 'ru-central1-a',
      blockSize: 4096,
      sourceImageId: '',
      sourceSnapshotId: '',
      placementGroupId: '',
      placementGroupPartition: 0,
      machineId: null,
    });
    return id;
  }

  #snapshot(em: EntityManager, folderId: string, name: string): string {
    const id = newId('snapshot');
    em.create(Snapshot, { ...stored(folderId, name), id, storageSize: 0, diskSize: size, sourceDiskId: unknown('disk') });
    return id;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client.close();
    await this.orm.close(true);
    await this.obraz[Symbol.asyncDispose]();
    await this.#database.dispose();
  }
}

const described = () => ({ createdAt: new Date(), description: '', labels: {} });

const stored = (folderId: string, name: string) => ({
  ...described(),
  folderId,
  name,
  status: 'READY' as const,
  productIds: [],
  os: defaultOs,
  hardwareGeneration: defaultHardwareGeneration,
  layerRoot: null,
});

function bearer(token: string): Metadata {
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  return metadata;
}
