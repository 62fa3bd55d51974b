// The service as the model sees it: started, stopped and killed over one database and one data folder, and spoken to by the calls of its API.
import { mkdtemp, readdir, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type GarbageProgress, MaintenanceServiceClient } from '../../../generated/obraz/v1/maintenance.ts';
import { CreateDiskMetadata, UpdateDiskRequest } from '../../../generated/yandex/cloud/compute/v1/disk_service.ts';
import { CreateImageMetadata, type CreateImageRequest } from '../../../generated/yandex/cloud/compute/v1/image_service.ts';
import { CreateSnapshotMetadata } from '../../../generated/yandex/cloud/compute/v1/snapshot_service.ts';
import type { Operation } from '../../../generated/yandex/cloud/operation/operation.ts';
import { credentials } from '@grpc/grpc-js';
import { ObrazClient, unary } from '../client.ts';
import { Obraz } from '../obraz.ts';
import { removeDataFolder, type TestDatabase, testDatabase } from '../postgres.ts';
import { rows } from '../slow-import.ts';
import { blobDirectoryOf } from '../stored-image.ts';
import { ModelConnection } from './connection.ts';

const patienceMs = 120_000;
/** A refusal that passes by itself: what was there before is still being closed or committed. */
const passing = /attached for writing|being detached|is committing|not just now/;

export class ModelService implements AsyncDisposable {
  readonly database: TestDatabase;
  readonly dataDirectory: string;
  obraz!: Obraz;
  client!: ObrazClient;
  #socket = '';

  private constructor(database: TestDatabase, dataDirectory: string) {
    this.database = database;
    this.dataDirectory = dataDirectory;
  }

  static async start(): Promise<ModelService> {
    const service = new ModelService(await testDatabase(), await mkdtemp(path.join(tmpdir(), 'obraz-model-')));
    try {
      await service.start();
      return service;
    } catch (error) {
      await service[Symbol.asyncDispose]();
      throw error;
    }
  }

  get blobDirectory(): string {
    return blobDirectoryOf(this.dataDirectory);
  }

  async start(): Promise<void> {
    const environment = { DATABASE_URL: this.database.url, OBRAZ_LOG_LEVEL: 'info' };
    this.obraz = await Obraz.start({ dataDirectory: this.dataDirectory, environment });
    this.client = await ObrazClient.of(this.obraz);
    this.#socket = (await this.obraz.bootstrap()).addresses.nbd_socket!;
  }

  async kill(): Promise<void> {
    await this.obraz.kill();
    this.client[Symbol.dispose]();
  }

  /** @throws Error unless it ends well. */
  async stop(): Promise<void> {
    this.client[Symbol.dispose]();
    const { code, signal } = await this.obraz.stop();
    if (code !== 0) throw new Error(`the service ended with ${code ?? signal}:\n${this.obraz.output}`);
  }

  /** Opens an export, when it can be. @throws Error with the server's words when it is refused for good. */
  async open(name: string): Promise<ModelConnection> {
    for (const deadline = Date.now() + patienceMs; ; await sleep(20)) {
      try {
        return await ModelConnection.open(this.#socket, name);
      } catch (error) {
        if (!passing.test((error as Error).message) || Date.now() > deadline) throw error;
      }
    }
  }

  /** The words with which an export is refused now. */
  async refusalOf(name: string): Promise<string> {
    try {
      (await ModelConnection.open(this.#socket, name)).drop();
      return 'opened';
    } catch (error) {
      return (error as Error).message;
    }
  }

  async createDisk(sizeBytes: number, source?: { $case: 'imageId' | 'snapshotId'; value: string }): Promise<string> {
    const operation = await this.client.createDisk({ size: BigInt(sizeBytes), source });
    await this.done(operation);
    return CreateDiskMetadata.decode(operation.metadata!.value).diskId;
  }

  beginSnapshot(diskId: string): Promise<Operation> {
    return this.client.createSnapshot({ diskId });
  }

  beginImage(source: CreateImageRequest['source']): Promise<Operation> {
    return this.client.createImage({ source });
  }

  growDisk(diskId: string, sizeBytes: number): Promise<Operation> {
    const { disks, metadata } = this.client;
    return unary(
      disks,
      disks.update,
      UpdateDiskRequest.fromPartial({ diskId, updateMask: ['size'], size: BigInt(sizeBytes) }),
      metadata,
    );
  }

  /** @throws Error when it does not succeed. */
  async done(operation: Operation): Promise<void> {
    await this.client.response(operation, patienceMs);
  }

  /** One run; what it did in the end. */
  async collectGarbage(): Promise<GarbageProgress> {
    using client = disposable(new MaintenanceServiceClient(this.client.address, credentials.createInsecure()));
    const stream = client.collectGarbage({ dryRun: false }, this.client.metadata);
    let last: GarbageProgress | undefined;
    for await (const message of stream as AsyncIterable<GarbageProgress>) last = message;
    if (last?.done !== true) throw new Error('garbage collection did not say that it is done');
    return last;
  }

  rows<Row extends Record<string, unknown>>(sql: string): Promise<Row[]> {
    return rows<Row>(this.database.url, sql);
  }

  /** Files that hold what was written to disks. */
  async generationFiles(): Promise<string[]> {
    const folder = path.join(this.dataDirectory, 'generations');
    const files = await readdir(folder, { recursive: true, withFileTypes: true });
    return files.filter((file) => file.isFile()).map((file) => path.join(file.parentPath, file.name));
  }

  /** As if they had been written long ago: what nobody needs of them goes at the next start. */
  async ageGenerationFiles(): Promise<void> {
    for (const file of await this.generationFiles()) await utimes(file, 0, 0).catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client?.[Symbol.dispose]();
    await this.obraz?.[Symbol.asyncDispose]();
    await removeDataFolder(this.dataDirectory);
    await this.database.dispose();
  }
}

const disposable = <C extends { close(): void }>(client: C): C & Disposable =>
  Object.assign(client, { [Symbol.dispose]: () => client.close() });

/** The id of the snapshot or the image that an operation makes. */
export const madeBy = (operation: Operation): string => {
  const { typeUrl, value } = operation.metadata!;
  return typeUrl.endsWith('CreateSnapshotMetadata')
    ? CreateSnapshotMetadata.decode(value).snapshotId
    : CreateImageMetadata.decode(value).imageId;
};
