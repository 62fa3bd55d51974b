// ImageService, DiskService and SnapshotService on a database of their own, without a transport: with disk contents that a test makes up,
// and jobs that it ends itself.
import type { EntityManager } from '@mikro-orm/postgresql';
import { CreateDiskMetadata, CreateDiskRequest } from '../../generated/yandex/cloud/compute/v1/disk_service.ts';
import { CreateImageMetadata, CreateImageRequest } from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import { CreateSnapshotMetadata, CreateSnapshotRequest } from '../../generated/yandex/cloud/compute/v1/snapshot_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { type CaptureTarget, type DiskContents, noContents } from '../../src/disks/disk-contents.ts';
import { Disk } from '../../src/disks/disk.entity.ts';
import { diskMethods } from '../../src/disks/methods.ts';
import { entities } from '../../src/entities.ts';
import { bootstrap } from '../../src/iam/bootstrap.ts';
import type { Call } from '../../src/iam/call.ts';
import { abandonImage, finishCapturedImage } from '../../src/images/finish.ts';
import { latestImages } from '../../src/images/find-latest.ts';
import { Image } from '../../src/images/image.entity.ts';
import { imageResource } from '../../src/images/image-resource.ts';
import { imageMethods } from '../../src/images/methods.ts';
import { JobBell } from '../../src/operations/job-bell.ts';
import type { JobHandler } from '../../src/operations/job-handler.ts';
import { Operations } from '../../src/operations/operations.ts';
import { reserveRunning } from '../../src/operations/running-operations-quota.ts';
import { Runner } from '../../src/operations/runner.ts';
import { type NewLimit, type QuotaState, setLimit } from '../../src/quotas/limits.ts';
import type { Quota } from '../../src/quotas/quota.ts';
import { quotas } from '../../src/quotas.ts';
import { deleteJob } from '../../src/resources/delete.job.ts';
import { abandonSnapshot, finishSnapshot } from '../../src/snapshots/finish.ts';
import { measureGrowth } from '../../src/snapshots/growth.ts';
import { snapshotMethods } from '../../src/snapshots/methods.ts';
import { Snapshot } from '../../src/snapshots/snapshot.entity.ts';
import { snapshotResource } from '../../src/snapshots/snapshot-resource.ts';
import { UrlPolicy } from '../../src/sources/url-policy.ts';
import type { ChunkAddress, PageAddress } from '../../src/storage/address.ts';
import { memoryBlobStore } from '../../src/storage/drivers/memory.ts';
import { openStorageOn, type Storage } from '../../src/storage/open.ts';
import { everybodyMay, testCall } from './call.ts';
import { MemoryLog, shortBounds } from './operations-kit.ts';
import { testOrm, type TestOrm } from './test-orm.ts';
import { untilWaiting } from './until-waiting.ts';

const MiB = 1024 * 1024;

/** Contents of disks as a test wants them. */
export class FakeContents implements DiskContents {
  /** Disks with writes that lie in no layer yet. */
  readonly unsettled = new Set<string>();
  readonly attached = new Set<string>();
  readonly captures = new Map<string, CaptureTarget>();
  readonly discarded: string[] = [];
  readonly grown: [id: string, sizeBytes: number][] = [];

  async settledRoot(em: EntityManager, disk: Disk) {
    return this.unsettled.has(disk.id) ? undefined : noContents.settledRoot(em, disk);
  }
  async captureJob(_em: EntityManager, disk: Disk, target: CaptureTarget) {
    this.captures.set(disk.id, target);
    return { kind: captureKind, payload: { diskId: disk.id, target } };
  }
  async capturing(_em: EntityManager, { id }: Disk) {
    return this.captures.get(id);
  }
  async hasWriter(_em: EntityManager, { id }: Disk) {
    return this.attached.has(id);
  }
  async discard(_em: EntityManager, { id }: Disk) {
    this.discarded.push(id);
  }
  async growing(_em: EntityManager, { id }: Disk, sizeBytes: number) {
    this.grown.push([id, sizeBytes]);
  }
}

const captureKind = 'test.capture';

type Capture = { diskId: string; target: CaptureTarget };

export class ResourcesKit implements AsyncDisposable {
  readonly contents = new FakeContents();
  readonly cloudId: string;
  readonly folderId: string;
  readonly storage: Storage;
  readonly operations: Operations;
  readonly images: ReturnType<typeof imageMethods>;
  readonly disks: ReturnType<typeof diskMethods>;
  readonly snapshots: ReturnType<typeof snapshotMethods>;
  readonly #database: TestOrm;
  readonly #bell: JobBell;

  private constructor(database: TestOrm, { cloudId, folderId }: { cloudId: string; folderId: string }, storage: Storage) {
    this.#database = database;
    this.cloudId = cloudId;
    this.folderId = folderId;
    this.storage = storage;
    this.#bell = new JobBell(this.fork);
    const operations = new Operations({ bell: this.#bell, fork: this.fork, reserveRunning });
    this.operations = operations;
    const { contents } = this;
    const { layers } = storage;
    const findImage = async (id: string) => (await this.fork().findOne(Image, { id })) ?? undefined;
    const findDisk = async (id: string) => (await this.fork().findOne(Disk, { id })) ?? undefined;
    const findSnapshot = async (id: string) => (await this.fork().findOne(Snapshot, { id })) ?? undefined;
    const urlPolicy = new UrlPolicy({ allow: [], publicPorts: [443] });
    this.images = imageMethods({ operations, findImage, findLatestImage: latestImages(this.fork), urlPolicy, contents, layers });
    this.disks = diskMethods({ operations, findDisk, contents });
    this.snapshots = snapshotMethods({ operations, findSnapshot, contents, layers });
  }

  /** `limits`: those of its cloud; none unless a test is about them. */
  static async open({ limits = 'none' }: { limits?: 'none' | 'default' } = {}): Promise<ResourcesKit> {
    const database = await testOrm([...entities]);
    const ids = await database.orm.em.fork().transactional((em) => bootstrap(em));
    const kit = new ResourcesKit(database, ids, await openStorageOn(memoryBlobStore(new Map())));
    if (limits === 'none') for (const quota of quotas) await kit.setLimit(quota, 'unlimited');
    return kit;
  }

  setLimit = (quota: Quota, limit: NewLimit): Promise<QuotaState> => setLimit(this.fork(), quota, this.cloudId, limit);

  readonly fork = (): EntityManager => this.#database.orm.em.fork();

  call = (overrides: Partial<Call> = {}): Call => testCall(this.fork(), overrides);

  /** The root of a layer with one chunk at each of these indexes; each name stands for other bytes. */
  async layer(chunks: Record<number, string>, base?: string): Promise<string> {
    const builder = await this.storage.layers.build(base as PageAddress | undefined);
    for (const [index, name] of Object.entries(chunks)) {
      builder.set(Number(index), Buffer.from(name).toString('hex').padEnd(64, '0') as ChunkAddress);
    }
    return builder.flush();
  }

  async createDisk(request: Partial<CreateDiskRequest> = {}, call = this.call()): Promise<Disk> {
    const defaults = { folderId: this.folderId, zoneId: 'ru-central1-a', size: BigInt(64 * MiB) };
    const operation = await this.disks.create(CreateDiskRequest.fromPartial({ ...defaults, ...request }), call);
    return this.disk(CreateDiskMetadata.decode(operation.metadata!.value).diskId);
  }

  disk = (id: string): Promise<Disk> => this.fork().findOneOrFail(Disk, { id });

  /** Gives a disk a base, as a commit does. */
  async setRoot(id: string, layerRoot: string | null): Promise<void> {
    await this.fork().nativeUpdate(Disk, { id }, { layerRoot });
  }

  /** Starts a snapshot. */
  takeSnapshot(request: Partial<CreateSnapshotRequest>, call = this.call()): Promise<OperationMessage> {
    return this.snapshots.create(CreateSnapshotRequest.fromPartial({ folderId: this.folderId, ...request }), call);
  }

  async createSnapshot(request: Partial<CreateSnapshotRequest>): Promise<Snapshot> {
    return this.snapshot(snapshotIdOf(await this.takeSnapshot(request)));
  }

  snapshot = (id: string): Promise<Snapshot> => this.fork().findOneOrFail(Snapshot, { id });

  /** Starts an image. */
  makeImage(request: Partial<CreateImageRequest>, call = this.call()): Promise<OperationMessage> {
    return this.images.create(CreateImageRequest.fromPartial({ folderId: this.folderId, ...request }), call);
  }

  async createImage(request: Partial<CreateImageRequest>): Promise<Image> {
    return this.image(imageIdOf(await this.makeImage(request)));
  }

  image = (id: string): Promise<Image> => this.fork().findOneOrFail(Image, { id });

  /** Runs captures and deletes until disposed. A capture waits for `proceed`, and then finds `root` on the disk. */
  startRunner(proceed: Promise<{ root: string | null }>): Runner {
    const capture: JobHandler<Capture> = {
      kind: captureKind,
      run: async ({ payload: { diskId, target }, signal }) => {
        const stopped = new Promise<never>((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
        });
        const { root } = await Promise.race([proceed, stopped]);
        const { addedBytes: storageSize } = await measureGrowth(this.fork(), this.storage.layers, { diskId, root }, signal);
        return async (em) => {
          this.contents.captures.delete(diskId);
          const finish = target.kind === 'snapshot' ? finishSnapshot : finishCapturedImage;
          return finish(em, target.id, { root, storageSize });
        };
      },
      abandon: async (em, { diskId, target }) => {
        this.contents.captures.delete(diskId);
        await (target.kind === 'snapshot' ? abandonSnapshot : abandonImage)(em, target.id);
      },
    };
    const handlers: JobHandler[] = [
      capture,
      deleteJob(imageResource, this.operations),
      deleteJob(snapshotResource, this.operations),
    ];
    const runner = new Runner({
      fork: this.fork,
      bell: this.#bell,
      access: everybodyMay,
      handlers,
      concurrency: 8,
      log: new MemoryLog(),
      bounds: shortBounds,
    });
    runner.start();
    return runner;
  }

  /** Resolves when so many statements wait for a lock; at most 30 s. */
  untilWaiting = (count: number): Promise<void> => untilWaiting(this.fork(), count);

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#database[Symbol.asyncDispose]();
  }
}

export const snapshotIdOf = (operation: OperationMessage): string =>
  CreateSnapshotMetadata.decode(operation.metadata!.value).snapshotId;

export const imageIdOf = (operation: OperationMessage): string => CreateImageMetadata.decode(operation.metadata!.value).imageId;
