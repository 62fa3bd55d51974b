// The rules of SnapshotService, and of images of disks and snapshots, on a real database and without a transport.
import { expect } from 'chai';
import { PCITopology } from '../../../generated/yandex/cloud/compute/v1/hardware_generation.ts';
import { CreateSnapshotMetadata } from '../../../generated/yandex/cloud/compute/v1/snapshot_service.ts';
import type { UpdateSnapshotRequest } from '../../../generated/yandex/cloud/compute/v1/snapshot_service.ts';
import type { Disk } from '../../../src/disks/disk.entity.ts';
import { Image } from '../../../src/images/image.entity.ts';
import { Operation } from '../../../src/operations/operation.entity.ts';
import { Snapshot } from '../../../src/snapshots/snapshot.entity.ts';
import { chunkBytes, chunksPerLeaf } from '../../../src/storage/sizes.ts';
import { expectRefusal } from '../../support/call.ts';
import { imageIdOf, ResourcesKit, snapshotIdOf } from '../../support/resources-kit.ts';
import { eventually } from '../../support/operations-kit.ts';

const MiB = 1024 ** 2;
const TiB = 1024 ** 4;

describe('SnapshotService', () => {
  let kit: ResourcesKit;

  before(async () => (kit = await ResourcesKit.open()));
  after(() => kit?.[Symbol.asyncDispose]());

  const remove = (snapshotId: string) => kit.snapshots.delete({ snapshotId }, kit.call());
  const update = (request: Partial<UpdateSnapshotRequest>) =>
    kit.snapshots.update(
      { snapshotId: '', updateMask: undefined, name: '', description: '', labels: {}, ...request },
      kit.call(),
    );
  const ended = (id: string): Promise<Operation> =>
    eventually(async () => {
      const operation = await kit.fork().findOneOrFail(Operation, { id });
      return operation.done ? operation : undefined;
    });

  /** A disk that has something written which lies in no layer. */
  const unsettledDisk = async (layerRoot: string | null = null): Promise<Disk> => {
    const disk = await kit.createDisk();
    await kit.setRoot(disk.id, layerRoot);
    kit.contents.unsettled.add(disk.id);
    return disk;
  };

  describe('Create', () => {
    it('takes over the layer, products and generation of the disk, and its size of that moment', async () => {
      const disk = await kit.createDisk();
      const root = await kit.layer({ 0: 'a', 5: 'b' });
      await kit.setRoot(disk.id, root);
      const operation = await kit.takeSnapshot({ diskId: disk.id, name: 'first', labels: { a: 'b' }, description: 'd' });
      expect(operation).to.include({ done: true, description: 'Create snapshot' });
      const id = snapshotIdOf(operation);
      expect(CreateSnapshotMetadata.decode(operation.metadata!.value)).to.deep.equal({ snapshotId: id, diskId: disk.id });
      expect(await kit.snapshots.get({ snapshotId: id }, kit.call())).to.deep.include({
        name: 'first',
        description: 'd',
        labels: { a: 'b' },
        status: 2,
        sourceDiskId: disk.id,
        diskSize: BigInt(64 * MiB),
        storageSize: BigInt(2 * chunkBytes),
        productIds: [],
        hardwareGeneration: { features: { $case: 'legacyFeatures', value: { pciTopology: PCITopology.PCI_TOPOLOGY_V1 } } },
      });
      expect((await kit.snapshot(id)).layerRoot).to.equal(root);
      const other = { features: { $case: 'generation2Features', value: {} } } as const;
      const second = await kit.createSnapshot({ diskId: disk.id, hardwareGeneration: other });
      expect(second.hardwareGeneration).to.deep.equal({ kind: 'generation2' });
    });

    it('counts what it adds to the snapshot before, and the first one all that is not zeros', async () => {
      const disk = await kit.createDisk();
      let root = await kit.layer({ 0: 'a', 1: 'b', [chunksPerLeaf]: 'c' });
      const sizes: number[] = [];
      const take = async (): Promise<Snapshot> => {
        await kit.setRoot(disk.id, root);
        const snapshot = await kit.createSnapshot({ diskId: disk.id });
        sizes.push(snapshot.storageSize / chunkBytes);
        return snapshot;
      };
      await take();
      await take();
      root = await kit.layer({ 1: 'new', 7: 'd' }, root);
      const third = await take();
      // What became zeros adds nothing.
      const builder = await kit.storage.layers.build(root as never);
      builder.set(0, undefined);
      root = await builder.flush();
      await take();
      expect(sizes).to.deep.equal([3, 0, 2, 0]);
      // Others are none of its business: their sizes stay when it goes.
      await remove(third.id);
      root = await kit.layer({ 9: 'e' }, root);
      await take();
      expect(sizes.at(-1)).to.equal(1);
    });

    it('takes empty disks', async () => {
      const disk = await kit.createDisk();
      for (let round = 0; round < 2; round += 1) {
        const snapshot = await kit.createSnapshot({ diskId: disk.id });
        expect(snapshot).to.include({ layerRoot: null, storageSize: 0, status: 'READY' });
        const clone = await kit.createDisk({ source: { $case: 'snapshotId', value: snapshot.id } });
        expect(clone).to.include({ layerRoot: null, sourceSnapshotId: snapshot.id });
        const image = await kit.createImage({ source: { $case: 'snapshotId', value: snapshot.id } });
        expect(image).to.include({ layerRoot: null, storageSize: 0, size: 64 * MiB, status: 'READY' });
      }
      // After zeros, all is new.
      await kit.setRoot(disk.id, await kit.layer({ 0: 'a' }));
      expect((await kit.createSnapshot({ diskId: disk.id })).storageSize).to.equal(chunkBytes);
    });

    it('makes no disk smaller than the disk was', async () => {
      const disk = await kit.createDisk({ size: BigInt(128 * MiB) });
      const { id } = await kit.createSnapshot({ diskId: disk.id });
      await expectRefusal(
        kit.createDisk({ source: { $case: 'snapshotId', value: id }, size: BigInt(124 * MiB) }),
        'INVALID_ARGUMENT',
        `size: must be at least ${128 * MiB} for snapshot ${id}, not ${124 * MiB}`,
      );
    });

    it('keeps names unique in a folder, also in a race', async () => {
      const disk = await kit.createDisk();
      const outcomes = await Promise.allSettled(
        Array.from({ length: 6 }, () => kit.createSnapshot({ diskId: disk.id, name: 'raced' })),
      );
      const failed = outcomes
        .filter((outcome) => outcome.status === 'rejected')
        .map(({ reason }) => (reason as { code: string }).code);
      expect(failed).to.deep.equal(Array.from({ length: 5 }, () => 'ALREADY_EXISTS'));
    });

    it('measures again when the disk or the snapshot before has changed meanwhile', async () => {
      const disk = await kit.createDisk();
      await kit.setRoot(disk.id, await kit.layer({ 0: 'a' }));
      // The two calls have measured before either of them is committed.
      const outcomes = await Promise.all([1, 2, 3].map(() => kit.createSnapshot({ diskId: disk.id })));
      expect(outcomes.map(({ storageSize }) => storageSize / chunkBytes)).to.have.members([0, 0, 1]);
    });

    it('says what is not there', async () => {
      const { id: diskId } = await kit.createDisk();
      await expectRefusal(kit.takeSnapshot({ diskId: 'epdnone' }), 'NOT_FOUND', 'Disk epdnone not found');
      await expectRefusal(kit.takeSnapshot({ diskId, folderId: 'b1gnone' }), 'NOT_FOUND', 'Folder b1gnone not found');
      await expectRefusal(kit.takeSnapshot({ diskId }, kit.call({ subject: undefined })), 'UNAUTHENTICATED');
    });
  });

  describe('of a disk with writes that lie in no layer', () => {
    it('is CREATING until a job has captured them; a second one is ABORTED meanwhile', async () => {
      const base = await kit.layer({ 0: 'a' });
      const disk = await unsettledDisk(base);
      const captured = Promise.withResolvers<{ root: string | null }>();
      await using _runner = kit.startRunner(captured.promise);
      const operation = await kit.takeSnapshot({ diskId: disk.id, name: 'captured' });
      expect(operation.done).to.equal(false);
      const id = snapshotIdOf(operation);
      expect(await kit.snapshot(id)).to.include({ status: 'CREATING', layerRoot: null, storageSize: 0 });
      await expectRefusal(
        kit.takeSnapshot({ diskId: disk.id }),
        'ABORTED',
        `Snapshot ${id} of disk ${disk.id} is being taken: try again when it is READY`,
      );
      for (const use of [
        () => update({ snapshotId: id, updateMask: ['name'], name: 'x' }),
        () => kit.createDisk({ source: { $case: 'snapshotId', value: id } }),
        () => kit.createImage({ source: { $case: 'snapshotId', value: id } }),
        () => kit.snapshots.setAccessBindings({ resourceId: id, accessBindings: [] }, kit.call()),
      ]) {
        await expectRefusal(use(), 'FAILED_PRECONDITION', `Snapshot ${id} is CREATING: wait until it is READY`);
      }
      await expectRefusal(
        kit.disks.delete({ diskId: disk.id }, kit.call()),
        'FAILED_PRECONDITION',
        /is being copied into snapshot/,
      );
      const root = await kit.layer({ 1: 'b', 2: 'c' }, base);
      captured.resolve({ root });
      expect((await ended(operation.id)).error).to.equal(null);
      expect(await kit.snapshot(id)).to.include({ status: 'READY', layerRoot: root, storageSize: 3 * chunkBytes });
      kit.contents.unsettled.delete(disk.id);
      await kit.setRoot(disk.id, root);
      expect((await kit.createSnapshot({ diskId: disk.id })).storageSize).to.equal(0);
    });

    it('leaves nothing when its create is deleted half-way, and its name is free then', async () => {
      const disk = await unsettledDisk();
      await using _runner = kit.startRunner(new Promise(() => {}));
      const created = await kit.takeSnapshot({ diskId: disk.id, name: 'half' });
      const id = snapshotIdOf(created);
      const deleted = await remove(id);
      expect(deleted).to.include({ done: false, description: 'Delete snapshot' });
      expect(await remove(id).catch((error: unknown) => error)).to.satisfy(
        (again: { id?: string; code?: string }) => again.id === deleted.id || again.code === 'NOT_FOUND',
      );
      expect((await ended(deleted.id)).error).to.equal(null);
      expect((await ended(created.id)).error).not.to.equal(null);
      expect(await kit.fork().count(Snapshot, { id })).to.equal(0);
      kit.contents.unsettled.clear();
      await kit.createSnapshot({ diskId: disk.id, name: 'half' });
    });

    it('can be the source of an image as well', async () => {
      const disk = await unsettledDisk();
      const captured = Promise.withResolvers<{ root: string | null }>();
      await using _runner = kit.startRunner(captured.promise);
      const operation = await kit.makeImage({ source: { $case: 'diskId', value: disk.id } });
      const id = imageIdOf(operation);
      expect(await kit.image(id)).to.include({ status: 'CREATING', size: 64 * MiB, minDiskSize: 64 * MiB, layerRoot: null });
      const root = await kit.layer({ 3: 'x' });
      captured.resolve({ root });
      expect((await ended(operation.id)).error).to.equal(null);
      expect(await kit.image(id)).to.include({ status: 'READY', layerRoot: root, storageSize: chunkBytes });
    });

    it('leaves nothing of an image whose create is deleted half-way', async () => {
      const disk = await unsettledDisk();
      await using _runner = kit.startRunner(new Promise(() => {}));
      const created = await kit.makeImage({ source: { $case: 'diskId', value: disk.id } });
      const id = imageIdOf(created);
      const deleted = await kit.images.delete({ imageId: id }, kit.call());
      expect((await ended(deleted.id)).error).to.equal(null);
      expect((await ended(created.id)).error).not.to.equal(null);
      expect(await kit.fork().count(Image, { id })).to.equal(0);
    });
  });

  describe('Update', () => {
    it('changes name, description and labels by the mask, all three without one', async () => {
      const disk = await kit.createDisk();
      const { id: snapshotId } = await kit.createSnapshot({
        diskId: disk.id,
        name: 'named',
        description: 'd',
        labels: { a: 'b' },
      });
      const operation = await update({ snapshotId, updateMask: ['description'], description: 'e', name: 'ignored' });
      expect(operation).to.include({ done: true, description: 'Update snapshot' });
      expect(await kit.snapshot(snapshotId)).to.deep.include({ name: 'named', description: 'e', labels: { a: 'b' } });
      await update({ snapshotId, labels: { c: 'd' } });
      expect(await kit.snapshot(snapshotId)).to.deep.include({ name: '', description: '', labels: { c: 'd' } });
      await expectRefusal(update({ snapshotId, updateMask: ['disk_size'] }), 'INVALID_ARGUMENT', /"disk_size" cannot be updated/);
      await kit.createSnapshot({ diskId: disk.id, name: 'in-use' });
      await expectRefusal(update({ snapshotId, updateMask: ['name'], name: 'in-use' }), 'ALREADY_EXISTS');
      await expectRefusal(update({ snapshotId: 'no' }), 'NOT_FOUND', 'Snapshot no not found');
    });
  });

  describe('Delete', () => {
    it('leaves the disk, the other snapshots and what was made of it', async () => {
      const root = await kit.layer({ 0: 'a' });
      const disk = await kit.createDisk();
      await kit.setRoot(disk.id, root);
      const snapshot = await kit.createSnapshot({ diskId: disk.id });
      const other = await kit.createSnapshot({ diskId: disk.id });
      const clone = await kit.createDisk({ source: { $case: 'snapshotId', value: snapshot.id } });
      const operation = await remove(snapshot.id);
      expect(operation).to.include({ done: true, description: 'Delete snapshot' });
      await expectRefusal(kit.snapshots.get({ snapshotId: snapshot.id }, kit.call()), 'NOT_FOUND');
      await expectRefusal(remove(snapshot.id), 'NOT_FOUND');
      for (const { layerRoot } of [await kit.disk(disk.id), await kit.snapshot(other.id), await kit.disk(clone.id)]) {
        expect(layerRoot).to.equal(root);
      }
      expect((await kit.disk(clone.id)).sourceSnapshotId).to.equal(snapshot.id);
    });
  });

  describe('an image of a disk', () => {
    for (const typeId of ['network-hdd', 'network-ssd', 'network-ssd-nonreplicated', 'network-ssd-io-m3']) {
      it(`of type ${typeId} has its size and holds what its layer holds`, async () => {
        const size = 93 * 1024 * MiB;
        const disk = await kit.createDisk({ typeId, size: BigInt(size) });
        const root = await kit.layer({ 1: 'a', 20_000: 'b' });
        await kit.setRoot(disk.id, root);
        const operation = await kit.makeImage({ source: { $case: 'diskId', value: disk.id } });
        expect(operation.done).to.equal(true);
        expect(await kit.image(imageIdOf(operation))).to.include({
          layerRoot: root,
          size,
          minDiskSize: size,
          storageSize: 2 * chunkBytes,
          status: 'READY',
        });
      });
    }

    it('is at most 4 TiB, and takes a min_disk_size of at least the size', async () => {
      const large = await kit.createDisk({ size: BigInt(4 * TiB + 4 * MiB) });
      await expectRefusal(
        kit.createImage({ source: { $case: 'diskId', value: large.id } }),
        'FAILED_PRECONDITION',
        /at most 4398046511104/,
      );
      const snapshot = await kit.createSnapshot({ diskId: large.id });
      await expectRefusal(
        kit.createImage({ source: { $case: 'snapshotId', value: snapshot.id } }),
        'FAILED_PRECONDITION',
        `Snapshot ${snapshot.id} has ${4 * TiB + 4 * MiB} bytes; an image holds at most ${4 * TiB}`,
      );
      const source = { $case: 'diskId', value: (await kit.createDisk()).id } as const;
      await expectRefusal(
        kit.createImage({ source, minDiskSize: BigInt(32 * MiB) }),
        'INVALID_ARGUMENT',
        /greater or equal than 67108864/,
      );
      expect((await kit.createImage({ source, minDiskSize: BigInt(100 * MiB) })).minDiskSize).to.equal(100 * MiB);
    });

    it('carries WINDOWS, products and generation from image to disk to snapshot to image', async () => {
      const em = kit.fork();
      const original = em.create(Image, {
        id: 'fd8original',
        folderId: kit.folderId,
        createdAt: new Date(),
        name: '',
        description: '',
        labels: {},
        family: '',
        size: 8 * MiB,
        storageSize: 8 * MiB,
        minDiskSize: 8 * MiB,
        productIds: ['f2eone', 'f2etwo'],
        status: 'READY',
        os: { type: 'WINDOWS', nvidiaDriver: '550' },
        hardwareGeneration: { kind: 'legacy', pciTopology: 'V2' },
        pooled: false,
        layerRoot: await kit.layer({ 0: 'w' }),
      });
      await em.flush();
      const disk = await kit.createDisk({ source: { $case: 'imageId', value: original.id } });
      const snapshot = await kit.createSnapshot({ diskId: disk.id });
      const images = [
        await kit.createImage({ source: { $case: 'diskId', value: disk.id } }),
        // As Terraform sends it: os with no type.
        await kit.createImage({ source: { $case: 'snapshotId', value: snapshot.id }, os: { type: 0, nvidia: undefined } }),
        await kit.createImage({
          source: { $case: 'diskId', value: (await kit.createDisk({ source: { $case: 'snapshotId', value: snapshot.id } })).id },
        }),
      ];
      for (const made of [disk, snapshot, ...images]) {
        expect(made).to.deep.include({
          productIds: ['f2eone', 'f2etwo'],
          os: { type: 'WINDOWS', nvidiaDriver: '550' },
          hardwareGeneration: { kind: 'legacy', pciTopology: 'V2' },
          layerRoot: original.layerRoot,
        });
      }
      const other = await kit.createImage({
        source: { $case: 'snapshotId', value: snapshot.id },
        os: { type: 1, nvidia: undefined },
        productIds: ['f2eother'],
        hardwareGeneration: { features: { $case: 'generation2Features', value: {} } },
      });
      expect(other).to.deep.include({ productIds: ['f2eother'], hardwareGeneration: { kind: 'generation2' } });
      expect(other.os.type).to.equal('LINUX');
    });
  });
});
