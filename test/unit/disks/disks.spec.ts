// The rules of DiskService, on a real database and without a transport.
import { expect } from 'chai';
import { LockMode } from '@mikro-orm/core';
import { AccessBindingAction } from '../../../generated/yandex/cloud/access/access.ts';
import type { CreateDiskRequest, UpdateDiskRequest } from '../../../generated/yandex/cloud/compute/v1/disk_service.ts';
import { MoveDiskMetadata, RelocateDiskMetadata } from '../../../generated/yandex/cloud/compute/v1/disk_service.ts';
import { Disk as DiskMessage } from '../../../generated/yandex/cloud/compute/v1/disk.ts';
import { PCITopology } from '../../../generated/yandex/cloud/compute/v1/hardware_generation.ts';
import type { Operation as OperationMessage } from '../../../generated/yandex/cloud/operation/operation.ts';
import { Disk } from '../../../src/disks/disk.entity.ts';
import { diskResource } from '../../../src/disks/disk-resource.ts';
import { AccessBinding } from '../../../src/iam/access-binding.entity.ts';
import { Folder } from '../../../src/iam/hierarchy/folder.entity.ts';
import { Image } from '../../../src/images/image.entity.ts';
import { imageResource } from '../../../src/images/image-resource.ts';
import type { Code } from '../../../src/platform/errors.ts';
import { newId } from '../../../src/platform/ids.ts';
import { lockAuthorized, lockSource } from '../../../src/resources/require.ts';
import { Snapshot } from '../../../src/snapshots/snapshot.entity.ts';
import { expectRefusal } from '../../support/call.ts';
import { ResourcesKit } from '../../support/resources-kit.ts';

const MiB = 1024 ** 2;
const GiB = 1024 ** 3;
const TiB = 1024 ** 4;

describe('DiskService', () => {
  let kit: ResourcesKit;
  /** In the same cloud as the kit's. */
  let otherFolderId: string;
  /** A WINDOWS image of 10 MiB for disks of 12 MiB and more. */
  let image: Image;

  before(async () => {
    kit = await ResourcesKit.open();
    const em = kit.fork();
    const { cloudId } = await em.findOneOrFail(Folder, { id: kit.folderId });
    otherFolderId = newId('folder');
    em.create(Folder, {
      id: otherFolderId,
      cloudId,
      createdAt: new Date(),
      name: 'other',
      description: '',
      labels: {},
      status: 'ACTIVE',
    });
    image = em.create(Image, {
      id: newId('image'),
      folderId: kit.folderId,
      createdAt: new Date(),
      name: 'windows',
      description: '',
      labels: {},
      family: '',
      size: 10 * MiB,
      storageSize: 8 * MiB,
      minDiskSize: 12 * MiB,
      productIds: ['f2ewindows'],
      status: 'READY',
      os: { type: 'WINDOWS' },
      hardwareGeneration: { kind: 'generation2' },
      pooled: false,
      layerRoot: await kit.layer({ 0: 'a', 2: 'b' }),
    });
    await em.flush();
  });

  after(() => kit?.[Symbol.asyncDispose]());

  beforeEach(() => {
    kit.contents.attached.clear();
    kit.contents.captures.clear();
    kit.contents.unsettled.clear();
  });

  const decoded = (operation: OperationMessage): DiskMessage => {
    expect(operation.done).to.equal(true);
    return DiskMessage.decode((operation.result as { value: { value: Uint8Array } }).value.value);
  };

  const update = async (request: Partial<UpdateDiskRequest>) =>
    decoded(
      await kit.disks.update(
        {
          diskId: '',
          updateMask: undefined,
          name: '',
          description: '',
          labels: {},
          size: 0n,
          diskPlacementPolicy: undefined,
          ...request,
        },
        kit.call(),
      ),
    );

  const remove = (diskId: string) => kit.disks.delete({ diskId }, kit.call());

  describe('Create', () => {
    it('makes an empty disk of zeros, with every default set', async () => {
      const row = await kit.createDisk();
      const disk = await kit.disks.get({ diskId: row.id }, kit.call());
      expect(disk).to.deep.include({
        folderId: kit.folderId,
        typeId: 'network-hdd',
        zoneId: 'ru-central1-a',
        size: BigInt(64 * MiB),
        blockSize: 4096n,
        productIds: [],
        status: 2,
        source: undefined,
        instanceIds: [],
        diskPlacementPolicy: { placementGroupId: '', placementGroupPartition: 0n },
        hardwareGeneration: {
          features: { $case: 'legacyFeatures', value: { pciTopology: PCITopology.PCI_TOPOLOGY_V1 } },
        },
      });
      expect(disk.id).to.match(/^fhm[0-9a-v]{17}$/);
      expect(row).to.include({ layerRoot: null, machineId: null });
    });

    for (const [zoneId, prefix] of [
      ['ru-central1-b', 'epd'],
      ['ru-central1-d', 'a7l'],
    ] as const) {
      it(`names disks of ${zoneId} ${prefix}…`, async () => {
        expect((await kit.createDisk({ zoneId })).id.slice(0, 3)).to.equal(prefix);
      });
    }

    it('takes over the layer, products, system and generation of an image', async () => {
      const disk = await kit.createDisk({ source: { $case: 'imageId', value: image.id }, size: BigInt(12 * MiB) });
      expect(disk).to.deep.include({
        layerRoot: image.layerRoot,
        sourceImageId: image.id,
        sourceSnapshotId: '',
        productIds: ['f2ewindows'],
        os: { type: 'WINDOWS' },
        hardwareGeneration: { kind: 'generation2' },
        size: 12 * MiB,
      });
      const message = await kit.disks.get({ diskId: disk.id }, kit.call());
      expect(message.source).to.deep.equal({ $case: 'sourceImageId', value: image.id });
    });

    it('takes another generation where the request names one', async () => {
      const disk = await kit.createDisk({
        source: { $case: 'imageId', value: image.id },
        hardwareGeneration: { features: { $case: 'legacyFeatures', value: { pciTopology: PCITopology.PCI_TOPOLOGY_V2 } } },
      });
      expect(disk.hardwareGeneration).to.deep.equal({ kind: 'legacy', pciTopology: 'V2' });
    });

    it('makes disks of every type in their sizes', async () => {
      for (const [typeId, size] of [
        ['network-hdd', 4 * MiB],
        ['network-ssd', 26 * TiB],
        ['network-ssd-nonreplicated', 93 * GiB],
        ['network-ssd-io-m3', 186 * GiB],
      ] as const) {
        const blockSize = size > 8 * TiB ? 16384n : 0n;
        const disk = await kit.createDisk({ typeId, size: BigInt(size), blockSize });
        expect(disk).to.include({ typeId, size });
      }
    });

    it('keeps a placement', async () => {
      const policy = { placementGroupId: 'group', placementGroupPartition: 2n };
      const { id } = await kit.createDisk({ diskPlacementPolicy: policy });
      expect((await kit.disks.get({ diskId: id }, kit.call())).diskPlacementPolicy).to.deep.equal(policy);
    });

    const refusals: [string, Partial<CreateDiskRequest>, Code, RegExp][] = [
      ['an unknown folder', { folderId: 'b1gnone' }, 'NOT_FOUND', /Folder b1gnone not found/],
      ['an unknown zone', { zoneId: 'mars' }, 'INVALID_ARGUMENT', /^zone_id: .*"mars"; choose from ru-central1-a, /],
      ['an unknown type', { typeId: 'tape' }, 'INVALID_ARGUMENT', /^type_id: .*"tape"; choose from network-hdd, /],
      ['a size that is no multiple', { size: BigInt(5 * MiB) }, 'INVALID_ARGUMENT', /^size: must be a multiple of 4194304/],
      [
        'a nonreplicated disk of 10 GiB',
        { typeId: 'network-ssd-nonreplicated', size: BigInt(10 * GiB) },
        'INVALID_ARGUMENT',
        /multiple of 99857989632/,
      ],
      ['an io-m3 disk of 100 GiB', { typeId: 'network-ssd-io-m3', size: BigInt(100 * GiB) }, 'INVALID_ARGUMENT', /99857989632/],
      ['a block size that is none', { blockSize: 5000n }, 'INVALID_ARGUMENT', /^block_size: /],
      ['too large a disk for its blocks', { size: BigInt(9 * TiB) }, 'INVALID_ARGUMENT', /^size: .* at most 8796093022208/],
      ['an unknown image', { source: { $case: 'imageId', value: 'fd8no' } }, 'NOT_FOUND', /^Image fd8no not found$/],
      ['an unknown snapshot', { source: { $case: 'snapshotId', value: 'fd8no' } }, 'NOT_FOUND', /^Snapshot fd8no not found$/],
      ['an empty image id', { source: { $case: 'imageId', value: '' } }, 'INVALID_ARGUMENT', /^image_id: /],
      ['an empty snapshot id', { source: { $case: 'snapshotId', value: '' } }, 'INVALID_ARGUMENT', /^snapshot_id: /],
      ['an unknown schedule', { snapshotScheduleIds: ['fd8s'] }, 'NOT_FOUND', /^Snapshot schedule fd8s not found$/],
      ['a key', { kmsKeyId: 'abj' }, 'UNIMPLEMENTED', /^kms_key_id/],
      [
        'a partition without a group',
        { diskPlacementPolicy: { placementGroupId: '', placementGroupPartition: 1n } },
        'INVALID_ARGUMENT',
        /^disk_placement_policy\.placement_group_partition: needs/,
      ],
      [
        'a partition that is none',
        { diskPlacementPolicy: { placementGroupId: 'g', placementGroupPartition: -1n } },
        'INVALID_ARGUMENT',
        /placement_group_partition: must be in the range/,
      ],
      [
        'a group id that is too long',
        { diskPlacementPolicy: { placementGroupId: 'g'.repeat(51), placementGroupPartition: 0n } },
        'INVALID_ARGUMENT',
        /placement_group_id/,
      ],
    ];
    for (const [what, request, code, text] of refusals) {
      it(`refuses ${what}`, () => expectRefusal(kit.createDisk(request), code, text));
    }

    it('refuses a disk below the min_disk_size of its image', async () => {
      const source = { $case: 'imageId', value: image.id } as const;
      await expectRefusal(
        kit.createDisk({ source, size: BigInt(8 * MiB) }),
        'INVALID_ARGUMENT',
        `size: must be at least ${12 * MiB} for image ${image.id}, not ${8 * MiB}`,
      );
    });

    it('refuses a source that is not READY, and who has no token', async () => {
      const em = kit.fork();
      const creating = em.create(Image, { ...copyOf(image), id: newId('image'), name: '', status: 'CREATING', layerRoot: null });
      await em.flush();
      const source = { $case: 'imageId', value: creating.id } as const;
      await expectRefusal(kit.createDisk({ source }), 'FAILED_PRECONDITION', /is CREATING: wait until it is READY/);
      await expectRefusal(kit.createDisk({}, kit.call({ subject: undefined })), 'UNAUTHENTICATED');
    });
  });

  describe('names', () => {
    it('are unique in a folder, also in a race, and free in others and when empty', async () => {
      const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => kit.createDisk({ name: 'raced' })));
      const codes = outcomes.map((outcome) =>
        outcome.status === 'fulfilled' ? 'made' : (outcome.reason as { code: string }).code,
      );
      expect(codes.toSorted()).to.deep.equal([...Array.from({ length: 7 }, () => 'ALREADY_EXISTS'), 'made']);
      await kit.createDisk({ name: 'raced', folderId: otherFolderId });
      await Promise.all([kit.createDisk(), kit.createDisk()]);
      // Names of images and of disks are apart.
      await kit.createDisk({ name: 'windows' });
    });

    it('are free again after a delete', async () => {
      const disk = await kit.createDisk({ name: 'again' });
      await expectRefusal(kit.createDisk({ name: 'again' }), 'ALREADY_EXISTS', /Disk with name "again" already exists/);
      await remove(disk.id);
      await kit.createDisk({ name: 'again' });
    });
  });

  describe('Update', () => {
    it('grows a disk, and copies nothing', async () => {
      const disk = await kit.createDisk({ source: { $case: 'imageId', value: image.id } });
      const grown = await update({ diskId: disk.id, updateMask: ['size'], size: BigInt(4 * TiB) });
      expect(grown.size).to.equal(BigInt(4 * TiB));
      expect(await kit.disk(disk.id)).to.include({ size: 4 * TiB, layerRoot: image.layerRoot });
      expect(kit.contents.grown).to.deep.include([disk.id, 4 * TiB]);
    });

    it('never shrinks one, and holds the rules of its type', async () => {
      const { id: diskId } = await kit.createDisk({ typeId: 'network-ssd-io-m3', size: BigInt(186 * GiB) });
      const resize = (size: number) => update({ diskId, updateMask: ['size'], size: BigInt(size) });
      await expectRefusal(resize(93 * GiB), 'INVALID_ARGUMENT', /^size: is 199715979264 now and cannot become less/);
      await expectRefusal(resize(200 * GiB), 'INVALID_ARGUMENT', /multiple of 99857989632 for network-ssd-io-m3/);
      await expectRefusal(update({ diskId, updateMask: ['size'] }), 'INVALID_ARGUMENT', /^size: must be given/);
      expect((await resize(186 * GiB)).size).to.equal(BigInt(186 * GiB));
      expect((await resize(279 * GiB)).size).to.equal(BigInt(279 * GiB));
    });

    it('changes only what the mask names', async () => {
      const { id: diskId } = await kit.createDisk({ name: 'masked', description: 'd', labels: { a: 'b' } });
      const before = await kit.disks.get({ diskId }, kit.call());
      expect(await update({ diskId, updateMask: ['labels'], name: 'x', description: 'y', labels: { c: '' } })).to.deep.equal({
        ...before,
        labels: { c: '' },
      });
      expect(await update({ diskId, updateMask: ['name'], name: 'renamed' })).to.include({ name: 'renamed', description: 'd' });
      await expectRefusal(update({ diskId, updateMask: ['type_id'] }), 'INVALID_ARGUMENT', /"type_id" cannot be updated/);
      await kit.createDisk({ name: 'taken' });
      await expectRefusal(update({ diskId, updateMask: ['name'], name: 'taken' }), 'ALREADY_EXISTS');
    });

    it('sets all without a mask, and leaves a size that is not given', async () => {
      const { id: diskId } = await kit.createDisk({
        name: 'unmasked',
        description: 'd',
        labels: { a: 'b' },
        diskPlacementPolicy: { placementGroupId: 'g', placementGroupPartition: 1n },
      });
      const updated = await update({ diskId, name: 'unmasked-2' });
      expect(updated).to.deep.include({ name: 'unmasked-2', description: '', labels: {}, size: BigInt(64 * MiB) });
      expect(updated.diskPlacementPolicy).to.deep.equal({ placementGroupId: '', placementGroupPartition: 0n });
      expect((await update({ diskId, size: BigInt(68 * MiB) })).size).to.equal(BigInt(68 * MiB));
    });

    it('changes the placement, whole or in part', async () => {
      const { id: diskId } = await kit.createDisk();
      const place = async (path: string, placementGroupId: string, placementGroupPartition: bigint) =>
        (await update({ diskId, updateMask: [path], diskPlacementPolicy: { placementGroupId, placementGroupPartition } }))
          .diskPlacementPolicy;
      const policy = 'disk_placement_policy';
      expect(await place(policy, 'g', 3n)).to.deep.equal({ placementGroupId: 'g', placementGroupPartition: 3n });
      expect(await place(`${policy}.placement_group_id`, 'h', 0n)).to.deep.equal({
        placementGroupId: 'h',
        placementGroupPartition: 3n,
      });
      expect(await place(`${policy}.placement_group_partition`, '', 5n)).to.deep.equal({
        placementGroupId: 'h',
        placementGroupPartition: 5n,
      });
      // As Terraform leaves a group.
      expect(await place(`${policy}.placement_group_id`, '', 0n)).to.deep.equal({
        placementGroupId: '',
        placementGroupPartition: 0n,
      });
      await expectRefusal(place(`${policy}.placement_group_partition`, '', 5n), 'INVALID_ARGUMENT', /needs a placement_group_id/);
    });
  });

  describe('Move', () => {
    const move = async (diskId: string, destinationFolderId: string) =>
      kit.disks.move({ diskId, destinationFolderId }, kit.call());

    it('takes the disk to another folder under the same id', async () => {
      const disk = await kit.createDisk({ name: 'moves' });
      const operation = await move(disk.id, otherFolderId);
      expect(decoded(operation)).to.include({ id: disk.id, folderId: otherFolderId, name: 'moves' });
      expect(MoveDiskMetadata.decode(operation.metadata!.value)).to.deep.equal({
        diskId: disk.id,
        sourceFolderId: kit.folderId,
        destinationFolderId: otherFolderId,
      });
      expect(operation.description).to.equal('Move disk');
      // Its name is free where it was, and it stays when it is there already.
      await kit.createDisk({ name: 'moves' });
      expect(decoded(await move(disk.id, otherFolderId)).folderId).to.equal(otherFolderId);
      await expectRefusal(move(disk.id, kit.folderId), 'ALREADY_EXISTS', /Disk with name "moves" already exists in folder/);
      expect((await kit.disk(disk.id)).folderId).to.equal(otherFolderId);
    });

    it('stays in the cloud', async () => {
      const disk = await kit.createDisk();
      await expectRefusal(move(disk.id, 'standard-images'), 'FAILED_PRECONDITION', /can be moved within cloud/);
      await expectRefusal(move(disk.id, 'b1gnone'), 'NOT_FOUND', 'Folder b1gnone not found');
      await expectRefusal(move('epdnone', kit.folderId), 'NOT_FOUND', 'Disk epdnone not found');
    });

    it('makes a change fail that was authorized where the disk was', async () => {
      const disk = await kit.createDisk();
      await move(disk.id, otherFolderId);
      await expectRefusal(
        kit.fork().transactional((em) => lockAuthorized(em, diskResource, disk)),
        'ABORTED',
        /is being moved to another folder/,
      );
    });
  });

  describe('Relocate', () => {
    const relocate = async (diskId: string, destinationZoneId: string) =>
      kit.disks.relocate({ diskId, destinationZoneId, diskPlacementPolicy: undefined }, kit.call());

    it('takes the disk to another zone, out of its placement group', async () => {
      const disk = await kit.createDisk({ diskPlacementPolicy: { placementGroupId: 'g', placementGroupPartition: 1n } });
      const operation = await relocate(disk.id, 'ru-central1-d');
      expect(decoded(operation)).to.deep.include({
        id: disk.id,
        zoneId: 'ru-central1-d',
        diskPlacementPolicy: { placementGroupId: '', placementGroupPartition: 0n },
      });
      expect(RelocateDiskMetadata.decode(operation.metadata!.value)).to.deep.equal({
        diskId: disk.id,
        sourceZoneId: 'ru-central1-a',
        destinationZoneId: 'ru-central1-d',
      });
      await expectRefusal(relocate(disk.id, 'mars'), 'INVALID_ARGUMENT', /^destination_zone_id: there is no "mars"/);
    });

    it('waits for nobody: an attached disk stays', async () => {
      const disk = await kit.createDisk();
      kit.contents.attached.add(disk.id);
      await expectRefusal(
        relocate(disk.id, 'ru-central1-b'),
        'FAILED_PRECONDITION',
        `Disk ${disk.id} is attached: detach it first`,
      );
    });
  });

  describe('Delete', () => {
    it('is refused while the disk is attached or being captured, and takes what was written along', async () => {
      const disk = await kit.createDisk();
      kit.contents.attached.add(disk.id);
      await expectRefusal(remove(disk.id), 'FAILED_PRECONDITION', `Disk ${disk.id} is attached: detach it first`);
      kit.contents.attached.clear();
      kit.contents.captures.set(disk.id, { kind: 'snapshot', id: 'fd8s' });
      await expectRefusal(remove(disk.id), 'FAILED_PRECONDITION', /is being copied into snapshot fd8s: wait until that is READY/);
      kit.contents.captures.clear();
      expect(kit.contents.discarded).to.not.include(disk.id);
      const operation = await remove(disk.id);
      expect(operation).to.include({ done: true, description: 'Delete disk' });
      expect(kit.contents.discarded).to.include(disk.id);
      await expectRefusal(kit.disks.get({ diskId: disk.id }, kit.call()), 'NOT_FOUND', `Disk ${disk.id} not found`);
      await expectRefusal(remove(disk.id), 'NOT_FOUND');
    });

    it('leaves the images and snapshots of the disk, and takes its bindings', async () => {
      const disk = await kit.createDisk({ source: { $case: 'imageId', value: image.id } });
      const snapshot = await kit.createSnapshot({ diskId: disk.id });
      const copy = await kit.createImage({ source: { $case: 'diskId', value: disk.id } });
      const binding = { roleId: 'editor', subject: { id: 'ajex', type: 'serviceAccount' } };
      await kit.disks.setAccessBindings({ resourceId: disk.id, accessBindings: [binding] }, kit.call());
      await remove(disk.id);
      expect((await kit.snapshot(snapshot.id)).layerRoot).to.equal(image.layerRoot);
      expect((await kit.image(copy.id)).layerRoot).to.equal(image.layerRoot);
      const left = await kit.fork().count(AccessBinding, { resourceId: disk.id });
      expect(left).to.equal(0);
    });
  });

  describe('in races', () => {
    it('holds the delete of a source until the clone is committed', async () => {
      const em = kit.fork();
      const source = em.create(Image, { ...copyOf(image), id: newId('image'), name: '' });
      await em.flush();
      const locked = Promise.withResolvers<void>();
      const cloned = Promise.withResolvers<void>();
      const clone = kit.fork().transactional(async (inside) => {
        await lockSource(inside, kit.call(), imageResource, source.id);
        locked.resolve();
        await cloned.promise;
      });
      await locked.promise;
      const deleted = kit.images.delete({ imageId: source.id }, kit.call());
      await kit.untilWaiting(1);
      expect(await kit.fork().count(Image, { id: source.id })).to.equal(1);
      cloned.resolve();
      await clone;
      expect((await deleted).done).to.equal(true);
    });

    it('either makes a clone whole or finds no source, whoever comes first', async () => {
      for (let round = 0; round < 10; round += 1) {
        const source = await kit.createImage({ source: { $case: 'imageId', value: image.id } });
        const [made] = await Promise.allSettled([
          kit.createDisk({ source: { $case: 'imageId', value: source.id } }),
          kit.images.delete({ imageId: source.id }, kit.call()),
        ]);
        if (made.status === 'fulfilled') expect(made.value.layerRoot).to.equal(image.layerRoot);
        else expect(made.reason).to.include({ code: 'NOT_FOUND' });
        expect(await kit.fork().count(Image, { id: source.id })).to.equal(0);
      }
    });

    it('lets one of a grow, a snapshot and a delete see the other whole', async () => {
      for (let round = 0; round < 5; round += 1) {
        const { id: diskId } = await kit.createDisk();
        const [grown, taken, deleted] = await Promise.allSettled([
          update({ diskId, updateMask: ['size'], size: BigInt(128 * MiB) }),
          kit.createSnapshot({ diskId }),
          remove(diskId),
        ]);
        expect(deleted.status).to.equal('fulfilled');
        for (const outcome of [grown, taken]) {
          if (outcome.status === 'rejected') expect(outcome.reason).to.include({ code: 'NOT_FOUND' });
        }
        if (taken.status === 'fulfilled') expect(taken.value.diskSize).to.be.oneOf([64 * MiB, 128 * MiB]);
      }
    });

    it('holds every other change of a disk while it is used', async () => {
      const disk = await kit.createDisk();
      const locked = Promise.withResolvers<void>();
      const used = Promise.withResolvers<void>();
      const user = kit.fork().transactional(async (inside) => {
        await lockSource(inside, kit.call(), diskResource, disk.id, LockMode.PESSIMISTIC_WRITE);
        locked.resolve();
        await used.promise;
      });
      await locked.promise;
      const changes = [
        update({ diskId: disk.id, updateMask: ['description'], description: 'x' }),
        kit.createSnapshot({ diskId: disk.id }),
        kit.createImage({ source: { $case: 'diskId', value: disk.id } }),
      ];
      await kit.untilWaiting(3);
      used.resolve();
      await Promise.all([user, ...changes]);
    });
  });

  describe('lists and bindings', () => {
    it('lists operations, newest first, and no schedules', async () => {
      const { id: diskId } = await kit.createDisk();
      await update({ diskId, updateMask: ['description'], description: 'x' });
      const { operations } = await kit.disks.listOperations({ diskId, pageSize: 0n, pageToken: '' }, kit.call());
      expect(operations.map(({ description }) => description)).to.deep.equal(['Update disk', 'Create disk']);
      const page = { diskId, pageSize: 0n, pageToken: '' };
      expect(await kit.disks.listSnapshotSchedules(page, kit.call())).to.deep.equal({ snapshotSchedules: [], nextPageToken: '' });
      await expectRefusal(
        kit.disks.listSnapshotSchedules({ ...page, pageToken: 'x' }, kit.call()),
        'INVALID_ARGUMENT',
        /page_token/,
      );
      await expectRefusal(
        kit.disks.listSnapshotSchedules({ ...page, pageSize: 1001n }, kit.call()),
        'INVALID_ARGUMENT',
        /page_size/,
      );
      await expectRefusal(
        kit.disks.listSnapshotSchedules({ ...page, diskId: 'no' }, kit.call()),
        'NOT_FOUND',
        'Disk no not found',
      );
      await expectRefusal(kit.disks.listOperations({ ...page, diskId: 'no' }, kit.call()), 'NOT_FOUND', 'Disk no not found');
    });

    it('keeps the bindings of disks and snapshots with equal rules, apart from each other', async () => {
      const disk = await kit.createDisk();
      const snapshot = await kit.createSnapshot({ diskId: disk.id });
      const binding = { roleId: 'compute.disks.user', subject: { id: 'allAuthenticatedUsers', type: 'system' } };
      for (const [methods, id] of [
        [kit.disks, disk.id],
        [kit.snapshots, snapshot.id],
      ] as const) {
        const list = async () =>
          (await methods.listAccessBindings({ resourceId: id, pageSize: 0n, pageToken: '' }, kit.call())).accessBindings;
        expect(await list()).to.deep.equal([]);
        const set = await methods.setAccessBindings({ resourceId: id, accessBindings: [binding] }, kit.call());
        expect(set.metadata?.typeUrl).to.match(/\.SetAccessBindingsMetadata$/);
        expect(await list()).to.deep.equal([binding]);
        const delta = { action: AccessBindingAction.REMOVE, accessBinding: binding };
        await methods.updateAccessBindings({ resourceId: id, accessBindingDeltas: [delta] }, kit.call());
        expect(await list()).to.deep.equal([]);
        await expectRefusal(methods.setAccessBindings({ resourceId: 'no', accessBindings: [] }, kit.call()), 'NOT_FOUND');
        await expectRefusal(
          methods.listAccessBindings({ resourceId: 'no', pageSize: 0n, pageToken: '' }, kit.call()),
          'NOT_FOUND',
        );
      }
    });

    it('refuses every change of a disk or snapshot that is not READY', async () => {
      const disk = await kit.createDisk();
      const snapshot = await kit.createSnapshot({ diskId: disk.id });
      await kit.fork().nativeUpdate(Disk, { id: disk.id }, { status: 'DELETING' });
      await kit.fork().nativeUpdate(Snapshot, { id: snapshot.id }, { status: 'DELETING' });
      const diskId = disk.id;
      const resourceId = diskId;
      const calls: (() => Promise<unknown>)[] = [
        () => update({ diskId, updateMask: ['name'], name: 'x' }),
        () => kit.disks.move({ diskId, destinationFolderId: otherFolderId }, kit.call()),
        () => kit.disks.relocate({ diskId, destinationZoneId: 'ru-central1-b', diskPlacementPolicy: undefined }, kit.call()),
        () => kit.disks.setAccessBindings({ resourceId, accessBindings: [] }, kit.call()),
        () => kit.createSnapshot({ diskId }),
        () => kit.createImage({ source: { $case: 'diskId', value: diskId } }),
        () => kit.createImage({ source: { $case: 'snapshotId', value: snapshot.id } }),
        () => kit.createDisk({ source: { $case: 'snapshotId', value: snapshot.id } }),
        () =>
          kit.snapshots.update(
            { snapshotId: snapshot.id, updateMask: ['name'], name: 'x', description: '', labels: {} },
            kit.call(),
          ),
        () => kit.snapshots.setAccessBindings({ resourceId: snapshot.id, accessBindings: [] }, kit.call()),
      ];
      for (const call of calls) await expectRefusal(call(), 'FAILED_PRECONDITION', /is DELETING: wait until it is READY/);
    });
  });
});

function copyOf({ folderId, createdAt, name, description, labels, family, size, storageSize, minDiskSize, ...rest }: Image) {
  const { productIds, status, os, hardwareGeneration, pooled, layerRoot } = rest;
  const described = { folderId, createdAt, name, description, labels, family };
  return { ...described, size, storageSize, minDiskSize, productIds, status, os, hardwareGeneration, pooled, layerRoot };
}
