// DiskService, SnapshotService, DiskTypeService and ZoneService through the real service and a grpc-js client with the project's stubs:
// what the transport adds to the rules (unit/disks, unit/snapshots): validation, lists, idempotency, operations.
import { randomUUID } from 'node:crypto';
import { type ServiceError, status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { BadRequest } from '../../generated/google/rpc/error_details.ts';
import { Status } from '../../generated/google/rpc/status.ts';
import { AccessBindingsOperationResult } from '../../generated/yandex/cloud/access/access.ts';
import { Disk } from '../../generated/yandex/cloud/compute/v1/disk.ts';
import {
  CreateDiskMetadata,
  type CreateDiskRequest,
  type ListDisksRequest,
  UpdateDiskRequest,
} from '../../generated/yandex/cloud/compute/v1/disk_service.ts';
import type { Image } from '../../generated/yandex/cloud/compute/v1/image.ts';
import { type ListSnapshotsRequest, UpdateSnapshotRequest } from '../../generated/yandex/cloud/compute/v1/snapshot_service.ts';
import { Snapshot } from '../../generated/yandex/cloud/compute/v1/snapshot.ts';
import { ObrazClient, unary } from '../support/client.ts';
import { Obraz } from '../support/obraz.ts';
import { startWebServer } from '../support/web-server.ts';

const MiB = 1024 ** 2;
const GiB = 1024 ** 3;
const shown = (value: unknown): string => JSON.stringify(value, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v));

describe('DiskService and SnapshotService end to end', function () {
  this.timeout(120_000);
  let obraz: Obraz;
  let client: ObrazClient;
  /** A READY image of 10 MiB, which takes disks of 12 MiB. */
  let image: Image;

  before(async () => {
    obraz = await Obraz.start();
    client = await ObrazClient.of(obraz);
    await using web = await startWebServer({ content: Buffer.alloc(10 * MiB, 'd') });
    image = await client.import({ name: 'base', productIds: ['f2ep'], source: { $case: 'uri', value: web.url() } });
  });

  after(async () => {
    client?.[Symbol.dispose]();
    await obraz?.[Symbol.asyncDispose]();
  });

  const failure = (promise: Promise<unknown>): Promise<ServiceError> =>
    promise.then(
      (answer) => {
        throw new Error(`was answered: ${shown(answer)}`);
      },
      (error: ServiceError) => error,
    );

  const violatedFields = (error: ServiceError): string[] => {
    const [bytes] = error.metadata.get('grpc-status-details-bin');
    const details = Status.decode(bytes as Buffer).details.find((detail) => detail.typeUrl.endsWith('google.rpc.BadRequest'));
    return BadRequest.decode(details!.value).fieldViolations.map((violation) => violation.field);
  };

  const listDisks = (request: Partial<ListDisksRequest> = {}) =>
    unary(
      client.disks,
      client.disks.list,
      { folderId: client.folderId, pageSize: 0n, pageToken: '', filter: '', orderBy: '', ...request },
      client.metadata,
    );

  const listSnapshots = (request: Partial<ListSnapshotsRequest> = {}) =>
    unary(
      client.snapshots,
      client.snapshots.list,
      { folderId: client.folderId, pageSize: 0n, pageToken: '', filter: '', orderBy: '', ...request },
      client.metadata,
    );

  const updateDisk = async (request: Partial<UpdateDiskRequest>): Promise<Disk> =>
    Disk.decode(
      await client.response(
        await unary(client.disks, client.disks.update, UpdateDiskRequest.fromPartial(request as never), client.metadata),
      ),
    );

  const ofImage = () => ({ source: { $case: 'imageId' as const, value: image.id } });

  describe('a disk', () => {
    it('is made at once of an image, answered by its operation and by Get alike', async () => {
      const operation = await client.createDisk({ name: 'first', labels: { a: 'b' }, ...ofImage() });
      expect(operation).to.include({ done: true, description: 'Create disk' });
      expect(operation.metadata?.typeUrl).to.equal('type.googleapis.com/yandex.cloud.compute.v1.CreateDiskMetadata');
      const disk = Disk.decode(await client.response(operation));
      expect(CreateDiskMetadata.decode(operation.metadata!.value).diskId).to.equal(disk.id);
      expect(await client.getDisk(disk.id)).to.deep.equal(disk);
      expect(await client.getOperation(operation.id)).to.deep.equal(operation);
      expect(disk).to.deep.include({ name: 'first', labels: { a: 'b' }, productIds: ['f2ep'], blockSize: 4096n });
      expect(disk.source).to.deep.equal({ $case: 'sourceImageId', value: image.id });
      expect(disk.diskPlacementPolicy).not.to.equal(undefined);
      expect(disk.hardwareGeneration?.features?.$case).to.equal('legacyFeatures');
      // The source may go; the disk still tells it.
      const copy = await client.import({ source: { $case: 'imageId', value: image.id } });
      const clone = await client.disk({ source: { $case: 'imageId', value: copy.id } });
      await client.wait(await client.deleteImage(copy.id));
      expect((await client.getDisk(clone.id)).source).to.deep.equal({ $case: 'sourceImageId', value: copy.id });
    });

    it('takes defaults as Terraform sends them', async () => {
      const disk = await client.disk({ name: '', size: BigInt(150 * GiB), blockSize: 4096n, kmsKeyId: '', typeId: '' });
      expect(disk).to.include({ typeId: 'network-hdd', size: BigInt(150 * GiB) });
    });

    it('is refused with every violated rule at once', async () => {
      const error = await failure(
        client.createDisk({
          name: 'Bad Name',
          description: 'd'.repeat(257),
          labels: { Bad: 'x' },
          zoneId: '',
          size: 1024n,
          source: { $case: 'imageId', value: 'i'.repeat(51) },
        }),
      );
      expect(error.code).to.equal(status.INVALID_ARGUMENT);
      expect(violatedFields(error)).to.have.members(['name', 'description', 'labels["Bad"]', 'zone_id', 'size', 'image_id']);
    });

    const refusals: [string, Partial<CreateDiskRequest>, status, RegExp][] = [
      ['more than 26 TiB', { size: 28587302322177n }, status.INVALID_ARGUMENT, /size/],
      ['an unknown zone', { zoneId: 'mars' }, status.INVALID_ARGUMENT, /^zone_id: there is no "mars"/],
      ['an unknown folder', { folderId: 'b1gnone' }, status.NOT_FOUND, /b1gnone/],
      [
        'too small for the image',
        { size: BigInt(8 * MiB) },
        status.INVALID_ARGUMENT,
        /^size: must be at least 12582912 for image/,
      ],
      ['an unknown image', { source: { $case: 'imageId', value: 'fd8none' } }, status.NOT_FOUND, /^Image fd8none not found$/],
    ];
    for (const [what, request, code, text] of refusals) {
      it(`is refused with ${what}`, async () => {
        const error = await failure(client.createDisk({ ...ofImage(), ...request }));
        expect(error.code).to.equal(code);
        expect(error.details).to.match(text);
        if (code === status.INVALID_ARGUMENT) expect(violatedFields(error)).to.have.length(1);
      });
    }

    it('is not made while its image is still imported', async () => {
      await using web = await startWebServer({ content: Buffer.alloc(4 * MiB), behaviour: { silent: true } });
      const creating = await client.createImage({ name: 'creating', source: { $case: 'uri', value: web.url() } });
      const { images } = await unary(
        client.images,
        client.images.list,
        { folderId: client.folderId, pageSize: 0n, pageToken: '', filter: 'name = "creating"', orderBy: '' },
        client.metadata,
      );
      const error = await failure(client.createDisk({ source: { $case: 'imageId', value: images[0]!.id } }));
      expect(error).to.include({ code: status.FAILED_PRECONDITION });
      expect(error.details).to.match(/is CREATING: wait until it is READY/);
      await client.wait(await client.cancel(creating.id));
    });

    it('grows to 4 TiB and never shrinks', async () => {
      const { id: diskId } = await client.disk(ofImage());
      expect((await updateDisk({ diskId, updateMask: ['size'], size: 4398046511104n })).size).to.equal(4398046511104n);
      expect((await failure(updateDisk({ diskId, updateMask: ['size'], size: BigInt(8 * MiB) }))).details).to.match(
        /cannot become less/,
      );
      expect((await failure(updateDisk({ diskId, updateMask: ['size'], size: 4398046511108n }))).code).to.equal(
        status.INVALID_ARGUMENT,
      );
    });

    it('is moved and relocated by operations of their own types, and listed with all of them', async () => {
      const { id: diskId } = await client.disk();
      const moved = await unary(
        client.disks,
        client.disks.move,
        { diskId, destinationFolderId: client.folderId },
        client.metadata,
      );
      expect(moved.metadata?.typeUrl).to.match(/\.MoveDiskMetadata$/);
      const relocated = await unary(
        client.disks,
        client.disks.relocate,
        { diskId, destinationZoneId: 'ru-central1-b', diskPlacementPolicy: undefined },
        client.metadata,
      );
      expect(relocated.metadata?.typeUrl).to.match(/\.RelocateDiskMetadata$/);
      expect((await client.getDisk(diskId)).zoneId).to.equal('ru-central1-b');
      const { operations } = await unary(
        client.disks,
        client.disks.listOperations,
        { diskId, pageSize: 0n, pageToken: '' },
        client.metadata,
      );
      expect(operations.map(({ description }) => description)).to.have.members(['Create disk', 'Move disk', 'Relocate disk']);
      const schedules = await unary(
        client.disks,
        client.disks.listSnapshotSchedules,
        { diskId, pageSize: 0n, pageToken: '' },
        client.metadata,
      );
      expect(schedules).to.deep.equal({ snapshotSchedules: [], nextPageToken: '' });
      const elsewhere = await failure(
        unary(client.disks, client.disks.move, { diskId, destinationFolderId: 'standard-images' }, client.metadata),
      );
      expect(elsewhere.code).to.equal(status.FAILED_PRECONDITION);
    });

    it('goes with its name, and answers NOT_FOUND then', async () => {
      const disk = await client.disk({ name: 'to-go' });
      const operation = await client.wait(await client.deleteDisk(disk.id));
      expect(operation.metadata?.typeUrl).to.match(/\.DeleteDiskMetadata$/);
      expect(operation.result?.$case === 'response' && operation.result.value.typeUrl).to.match(/google\.protobuf\.Empty$/);
      expect((await failure(client.getDisk(disk.id))).code).to.equal(status.NOT_FOUND);
      expect((await failure(client.deleteDisk(disk.id))).code).to.equal(status.NOT_FOUND);
      await client.disk({ name: 'to-go' });
    });

    it('is made once under one idempotency key, deleted once too, and refused another request under it', async () => {
      const metadata = client.metadata.clone();
      metadata.set('idempotency-key', randomUUID());
      const create = (change: Partial<CreateDiskRequest> = {}) => client.createDisk({ name: 'idempotent', ...change }, metadata);
      const [first, ...others] = await Promise.all([create(), create(), create(), create()]);
      for (const other of others) expect(other.id).to.equal(first.id);
      expect((await failure(create({ name: 'another' }))).code).to.equal(status.INVALID_ARGUMENT);
      const { diskId } = CreateDiskMetadata.decode(first.metadata!.value);
      const remove = () => unary(client.disks, client.disks.delete, { diskId }, metadata);
      expect((await remove()).id).to.equal((await remove()).id);
    });

    it('carries access bindings', async () => {
      const { id: resourceId } = await client.disk();
      const binding = { roleId: 'compute.disks.user', subject: { id: 'aje-Some.Body', type: 'userAccount' } };
      const operation = await unary(
        client.disks,
        client.disks.setAccessBindings,
        { resourceId, accessBindings: [binding] },
        client.metadata,
      );
      expect(operation.metadata?.typeUrl).to.equal('type.googleapis.com/yandex.cloud.access.SetAccessBindingsMetadata');
      expect(AccessBindingsOperationResult.decode(await client.response(operation)).effectiveDeltas).to.have.length(1);
      const { accessBindings } = await unary(
        client.disks,
        client.disks.listAccessBindings,
        { resourceId, pageSize: 1000n, pageToken: '' },
        client.metadata,
      );
      expect(accessBindings).to.deep.equal([binding]);
    });
  });

  describe('a snapshot', () => {
    it('is taken at once, updated, listed and deleted', async () => {
      const disk = await client.disk(ofImage());
      const operation = await client.createSnapshot({ diskId: disk.id, name: 'taken' });
      expect(operation).to.include({ done: true, description: 'Create snapshot' });
      const snapshot = Snapshot.decode(await client.response(operation));
      expect(snapshot).to.deep.include({
        sourceDiskId: disk.id,
        diskSize: disk.size,
        storageSize: BigInt(12 * MiB),
        productIds: ['f2ep'],
        hardwareGeneration: disk.hardwareGeneration,
      });
      expect(await client.getSnapshot(snapshot.id)).to.deep.equal(snapshot);
      expect((await client.snapshot({ diskId: disk.id })).storageSize).to.equal(0n);
      const request = { snapshotId: snapshot.id, updateMask: ['labels'], labels: { k: 'v' } };
      const updated = await unary(
        client.snapshots,
        client.snapshots.update,
        UpdateSnapshotRequest.fromPartial(request as never),
        client.metadata,
      );
      expect(Snapshot.decode(await client.response(updated))).to.deep.equal({ ...snapshot, labels: { k: 'v' } });
      const { operations } = await unary(
        client.snapshots,
        client.snapshots.listOperations,
        { snapshotId: snapshot.id, pageSize: 0n, pageToken: '' },
        client.metadata,
      );
      expect(operations.map(({ description }) => description)).to.have.members(['Create snapshot', 'Update snapshot']);
      const found = await listSnapshots({ filter: `sourceDiskId = "${disk.id}" AND name = "taken"` });
      expect(found.snapshots.map(({ id }) => id)).to.deep.equal([snapshot.id]);
      const deleted = await client.wait(await client.deleteSnapshot(snapshot.id));
      expect(deleted.metadata?.typeUrl).to.match(/\.DeleteSnapshotMetadata$/);
      expect((await failure(client.getSnapshot(snapshot.id))).code).to.equal(status.NOT_FOUND);
      expect((await failure(client.deleteSnapshot(snapshot.id))).code).to.equal(status.NOT_FOUND);
    });

    it('is refused with every violated rule at once, and for a disk that is not there', async () => {
      const error = await failure(client.createSnapshot({ folderId: '', diskId: '', name: '-', labels: { '1': '' } }));
      expect(violatedFields(error)).to.have.members(['folder_id', 'disk_id', 'name', 'labels["1"]']);
      expect(await failure(client.createSnapshot({ diskId: 'epdnone' }))).to.include({
        code: status.NOT_FOUND,
        details: 'Disk epdnone not found',
      });
    });

    it('is taken once under one idempotency key', async () => {
      const disk = await client.disk();
      const metadata = client.metadata.clone();
      metadata.set('idempotency-key', randomUUID());
      const take = () => client.createSnapshot({ diskId: disk.id }, metadata);
      const ids = await Promise.all([take(), take(), take()]);
      expect(new Set(ids.map(({ id }) => id)).size).to.equal(1);
    });
  });

  describe('lists', () => {
    const names = Array.from({ length: 7 }, (_, index) => `listed-${index}`);
    let diskId: string;

    before(async () => {
      for (const [index, name] of names.entries()) {
        const disk = await client.disk({
          name,
          description: 'listed',
          typeId: 'network-ssd',
          zoneId: 'ru-central1-d',
          size: BigInt((index + 1) * 4 * MiB),
        });
        diskId = disk.id;
      }
      for (const name of names) await client.snapshot({ diskId, name, description: 'listed' });
    });

    async function all<Item>(page: (pageToken: string) => Promise<{ items: Item[]; nextPageToken: string }>): Promise<Item[]> {
      const found: Item[] = [];
      let pageToken = '';
      do {
        const { items, nextPageToken } = await page(pageToken);
        expect(items).not.to.have.length(0);
        found.push(...items);
        pageToken = nextPageToken;
      } while (pageToken !== '');
      return found;
    }

    for (const orderBy of ['', 'name desc', 'size', 'created_at desc', 'zoneId', 'blockSize desc']) {
      it(`have every disk once, ordered by "${orderBy}"`, async () => {
        const disks = await all(async (pageToken) => {
          const page = await listDisks({ filter: 'description = "listed"', orderBy, pageSize: 3n, pageToken });
          return { items: page.disks, nextPageToken: page.nextPageToken };
        });
        expect(disks.map(({ name }) => name).toSorted()).to.deep.equal(names);
        if (orderBy === 'size') expect(disks.map(({ name }) => name)).to.deep.equal(names);
        if (orderBy === 'name desc') expect(disks.map(({ name }) => name)).to.deep.equal(names.toReversed());
      });
    }

    for (const orderBy of ['', 'name desc', 'createdAt', 'storageSize desc', 'diskSize', 'sourceDiskId']) {
      it(`have every snapshot once, ordered by "${orderBy}"`, async () => {
        const snapshots = await all(async (pageToken) => {
          const page = await listSnapshots({ filter: 'description = "listed"', orderBy, pageSize: 2n, pageToken });
          return { items: page.snapshots, nextPageToken: page.nextPageToken };
        });
        expect(snapshots.map(({ name }) => name).toSorted()).to.deep.equal(names);
        if (orderBy === 'createdAt') {
          const times = snapshots.map(({ createdAt }) => createdAt!.getTime());
          expect(times).to.deep.equal(times.toSorted((a, b) => a - b));
        }
      });
    }

    for (const filter of [
      'name = "listed-3"',
      'name="listed-3"',
      'zone_id = "ru-central1-d" AND size = 16777216',
      'typeId IN ("network-ssd") AND name NOT IN ("listed-0","listed-1","listed-2","listed-4","listed-5","listed-6")',
    ]) {
      it(`find a disk by ${filter}`, async () => {
        expect((await listDisks({ filter })).disks.map(({ name }) => name)).to.deep.equal(['listed-3']);
      });
    }

    it('find what was made of an image', async () => {
      const disk = await client.disk({ name: 'of-image', ...ofImage() });
      const { disks } = await listDisks({ filter: `source_image_id = "${image.id}" AND name = "of-image"` });
      expect(disks).to.deep.equal([disk]);
    });

    it('refuse filters, orders and tokens that they cannot use', async () => {
      const { nextPageToken } = await listDisks({ pageSize: 2n });
      for (const request of [
        { filter: 'colour = "red"' },
        { filter: 'zoneId = "mars"' },
        { filter: 'layerRoot = "x"' },
        { filter: 'machineId = "x"' },
        { orderBy: 'labels' },
        { pageToken: 'x' },
        { pageToken: nextPageToken, orderBy: 'name' },
        { pageSize: 1001n },
      ]) {
        expect((await failure(listDisks(request))).code, shown(request)).to.equal(status.INVALID_ARGUMENT);
      }
      expect((await failure(listSnapshots({ pageToken: nextPageToken }))).code).to.equal(status.INVALID_ARGUMENT);
      expect((await failure(listSnapshots({ folderId: 'b1gnone' }))).code).to.equal(status.NOT_FOUND);
      expect((await failure(listDisks({ folderId: 'b1gnone' }))).code).to.equal(status.NOT_FOUND);
    });
  });
});
