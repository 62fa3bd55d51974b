// A grpc-js client of a running service with the generated stubs: the calls that the end-to-end tests and benches repeat.
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type CallOptions,
  type ChannelCredentials,
  type Client,
  type ClientUnaryCall,
  Metadata,
  type ServiceError,
  credentials,
} from '@grpc/grpc-js';
import { AttachMode, AttachServiceClient, type Ticket } from '../../generated/obraz/v1/attach.ts';
import { Disk } from '../../generated/yandex/cloud/compute/v1/disk.ts';
import { CreateDiskRequest, DiskServiceClient } from '../../generated/yandex/cloud/compute/v1/disk_service.ts';
import { Image } from '../../generated/yandex/cloud/compute/v1/image.ts';
import {
  CreateImageMetadata,
  CreateImageRequest,
  ImageServiceClient,
} from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import { Snapshot } from '../../generated/yandex/cloud/compute/v1/snapshot.ts';
import { CreateSnapshotRequest, SnapshotServiceClient } from '../../generated/yandex/cloud/compute/v1/snapshot_service.ts';
import type { Operation } from '../../generated/yandex/cloud/operation/operation.ts';
import { OperationServiceClient } from '../../generated/yandex/cloud/operation/operation_service.ts';
import type { Obraz } from './obraz.ts';

type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  answer: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

/** Calls a unary method of a stub: `await unary(client, client.get, request, metadata)`. Rejects with the ServiceError. */
export const unary = <Request, Response>(
  client: Client,
  method: UnaryMethod<Request, Response>,
  request: Request,
  metadata = new Metadata(),
): Promise<Response> =>
  new Promise((resolve, reject) => {
    method.call(client, request, metadata, {}, (error, response) => (error === null ? resolve(response) : reject(error)));
  });

export class ObrazClient implements Disposable {
  readonly folderId: string;
  readonly address: string;
  readonly metadata = new Metadata();
  readonly images: ImageServiceClient;
  readonly disks: DiskServiceClient;
  readonly attachments: AttachServiceClient;
  readonly snapshots: SnapshotServiceClient;
  readonly operations: OperationServiceClient;

  constructor(address: string, token: string, folderId: string, channel: ChannelCredentials = credentials.createInsecure()) {
    this.address = address;
    this.folderId = folderId;
    this.metadata.set('authorization', `Bearer ${token}`);
    this.images = new ImageServiceClient(address, channel);
    this.disks = new DiskServiceClient(address, channel);
    this.attachments = new AttachServiceClient(address, channel);
    this.snapshots = new SnapshotServiceClient(address, channel);
    this.operations = new OperationServiceClient(address, channel);
  }

  static async of(obraz: Obraz): Promise<ObrazClient> {
    const { addresses, folder_id: folderId } = await obraz.bootstrap();
    return new ObrazClient(addresses.grpc, await obraz.token(), folderId);
  }

  /** Starts a create in the client's folder. */
  createImage(request: Partial<CreateImageRequest>, metadata = this.metadata): Promise<Operation> {
    return unary(
      this.images,
      this.images.create,
      CreateImageRequest.fromPartial({ folderId: this.folderId, ...request }),
      metadata,
    );
  }

  getOperation(operationId: string): Promise<Operation> {
    return unary(this.operations, this.operations.get, { operationId }, this.metadata);
  }

  cancel(operationId: string): Promise<Operation> {
    return unary(this.operations, this.operations.cancel, { operationId }, this.metadata);
  }

  deleteImage(imageId: string): Promise<Operation> {
    return unary(this.images, this.images.delete, { imageId }, this.metadata);
  }

  getImage(imageId: string): Promise<Image> {
    return unary(this.images, this.images.get, { imageId }, this.metadata);
  }

  /** Starts a create of a disk: in the client's folder and the first zone, 64 MiB, where the request does not say otherwise. */
  createDisk(request: Partial<CreateDiskRequest> = {}, metadata = this.metadata): Promise<Operation> {
    const full = { folderId: this.folderId, zoneId: 'ru-central1-a', size: 64n * 1024n * 1024n, ...request };
    return unary(this.disks, this.disks.create, CreateDiskRequest.fromPartial(full), metadata);
  }

  /** A ticket for the mode that the resource's kind has by default, or for reading. */
  createTicket(
    resourceId: string,
    {
      readOnly = false,
      lifetimeSeconds,
      metadata = this.metadata,
    }: { readOnly?: boolean; lifetimeSeconds?: number; metadata?: Metadata } = {},
  ): Promise<Ticket> {
    const request = {
      resourceId,
      mode: readOnly ? AttachMode.ATTACH_MODE_READ_ONLY : AttachMode.ATTACH_MODE_UNSPECIFIED,
      lifetime: lifetimeSeconds === undefined ? undefined : { seconds: BigInt(lifetimeSeconds), nanos: 0 },
    };
    return unary(this.attachments, this.attachments.createTicket, request, metadata);
  }

  getDisk(diskId: string): Promise<Disk> {
    return unary(this.disks, this.disks.get, { diskId }, this.metadata);
  }

  deleteDisk(diskId: string): Promise<Operation> {
    return unary(this.disks, this.disks.delete, { diskId }, this.metadata);
  }

  /** Starts a create of a snapshot in the client's folder. */
  createSnapshot(request: Partial<CreateSnapshotRequest>, metadata = this.metadata): Promise<Operation> {
    const full = CreateSnapshotRequest.fromPartial({ folderId: this.folderId, ...request });
    return unary(this.snapshots, this.snapshots.create, full, metadata);
  }

  getSnapshot(snapshotId: string): Promise<Snapshot> {
    return unary(this.snapshots, this.snapshots.get, { snapshotId }, this.metadata);
  }

  deleteSnapshot(snapshotId: string): Promise<Operation> {
    return unary(this.snapshots, this.snapshots.delete, { snapshotId }, this.metadata);
  }

  /** Polls until the operation is done; at most `limitMs`. */
  async wait(operation: Operation, limitMs = 120_000, pollMs = 20): Promise<Operation> {
    const deadline = Date.now() + limitMs;
    let current = operation;
    while (!current.done) {
      if (Date.now() > deadline) throw new Error(`operation ${operation.id} was not done within ${limitMs} ms`);
      await sleep(pollMs);
      current = await this.getOperation(operation.id);
    }
    return current;
  }

  /** Waits for an operation to succeed, and answers the response's bytes. @throws Error with the operation's error. */
  async response(operation: Operation, limitMs?: number): Promise<Uint8Array> {
    const done = await this.wait(operation, limitMs);
    if (done.result?.$case !== 'response')
      throw new Error(
        `operation failed: ${JSON.stringify(done.result?.value, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v))}`,
      );
    return done.result.value.value;
  }

  /** Waits for an image operation to succeed. @throws Error with the operation's error. */
  async image(operation: Operation, limitMs?: number): Promise<Image> {
    return Image.decode(await this.response(operation, limitMs));
  }

  /** Creates an image and waits for it. */
  async import(request: Partial<CreateImageRequest>, limitMs?: number): Promise<Image> {
    return this.image(await this.createImage(request), limitMs);
  }

  /** Creates a disk and waits for it. */
  async disk(request?: Partial<CreateDiskRequest>): Promise<Disk> {
    return Disk.decode(await this.response(await this.createDisk(request)));
  }

  /** Takes a snapshot and waits for it. */
  async snapshot(request: Partial<CreateSnapshotRequest>): Promise<Snapshot> {
    return Snapshot.decode(await this.response(await this.createSnapshot(request)));
  }

  [Symbol.dispose](): void {
    this.images.close();
    this.disks.close();
    this.attachments.close();
    this.snapshots.close();
    this.operations.close();
  }
}

/** The image id that an operation of Create names from the first moment. */
export const imageIdOf = (operation: Operation): string => CreateImageMetadata.decode(operation.metadata!.value).imageId;
