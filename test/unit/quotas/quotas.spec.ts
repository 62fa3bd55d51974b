// Quotas of a cloud where rows are made: what counts, what is refused, and that neither races nor plans of queries break it.
import { expect } from 'chai';
import { query } from '../../../src/db/bound-query.ts';
import { diskSizeQuotas, disksCountQuota } from '../../../src/disks/disk-quotas.ts';
import { imagesCountQuota, imagesSizeQuota, pooledImagesQuota } from '../../../src/images/image-quotas.ts';
import { takeSize } from '../../../src/images/import/take-size.ts';
import { LeaseLost } from '../../../src/operations/job-handler.ts';
import { runningOperationsQuota } from '../../../src/operations/running-operations-quota.ts';
import { type DomainError } from '../../../src/platform/errors.ts';
import { quotaStates } from '../../../src/quotas/limits.ts';
import { GiB, type Quota, usagesSql } from '../../../src/quotas/quota.ts';
import { quotas } from '../../../src/quotas.ts';
import { snapshotsCountQuota, snapshotsSizeQuota } from '../../../src/snapshots/snapshot-quotas.ts';
import { expectRefusal } from '../../support/call.ts';
import { imageIdOf, ResourcesKit } from '../../support/resources-kit.ts';
import { UpdateDiskRequest } from '../../../generated/yandex/cloud/compute/v1/disk_service.ts';

const MiB = 1024 ** 2;

describe('quotas of a cloud', function () {
  this.timeout(60_000);
  let kit: ResourcesKit;
  beforeEach(async () => {
    kit = await ResourcesKit.open({ limits: 'default' });
  });
  afterEach(() => kit[Symbol.asyncDispose]());

  const states = (of: readonly Quota[]) => quotaStates(kit.fork(), of, kit.cloudId);
  const usage = async (quota: Quota) => (await states([quota]))[0]!.usage;

  /** The refusal, with its numbers. */
  const refused = async (work: Promise<unknown>, quota: Quota, numbers: { limit: number; usage: number; required: number }) => {
    const error: DomainError = await expectRefusal(work, 'RESOURCE_EXHAUSTED', `Limit ${quota.id} exceeded`);
    expect(error.details).to.deep.equal([
      { kind: 'quotaFailure', cloudId: kit.cloudId, violations: [{ metric: quota.id, ...numbers }] },
    ]);
  };

  it('has the public names and defaults', async () => {
    const all = await states(quotas);
    expect(Object.fromEntries(all.map(({ quotaId, limit }) => [quotaId, limit]))).to.deep.equal({
      'compute.images.count': 32,
      'compute.images.size': 1024 * GiB,
      'compute.diskPools.count': 0,
      'compute.snapshots.count': 32,
      'compute.snapshots.size': 400 * GiB,
      'compute.snapshotSchedules.count': 32,
      'compute.disks.count': 32,
      'compute.hddDisks.size': 500 * GiB,
      'compute.ssdDisks.size': 200 * GiB,
      'compute.ssdNonReplicatedDisks.size': 558 * GiB,
      'compute.ssdIOM3Disks.size': 186 * GiB,
      'compute.runningOperations.count': 15,
      'iam.serviceAccounts.count': 100,
      'resource-manager.folders.count': 100,
    });
    // The first start has made a folder, and an account in it.
    const used = all.filter((each) => each.usage > 0).map(({ quotaId, usage: amount }) => [quotaId, amount]);
    expect(used).to.deep.equal([
      ['iam.serviceAccounts.count', 1],
      ['resource-manager.folders.count', 1],
    ]);
  });

  it('counts disks, and the sizes of each type by themselves', async () => {
    const types = [
      ['network-hdd', 500, 4 * MiB],
      ['network-ssd', 200, 4 * MiB],
      ['network-ssd-nonreplicated', 558, 93 * GiB],
      ['network-ssd-io-m3', 186, 93 * GiB],
    ] as const;
    for (const [typeId, limitGiB, step] of types) {
      const quota = diskSizeQuotas[typeId];
      const limit = limitGiB * GiB;
      await kit.createDisk({ typeId, size: BigInt(limit - step) });
      const tooLarge = { limit, usage: limit - step, required: limit + step };
      await refused(kit.createDisk({ typeId, size: BigInt(2 * step) }), quota, tooLarge);
      await kit.createDisk({ typeId, size: BigInt(step) });
      expect(await usage(quota)).to.equal(limit);
    }
    expect(await usage(disksCountQuota)).to.equal(8);
    await kit.setLimit(disksCountQuota, 8);
    await refused(kit.createDisk({ typeId: 'network-ssd' }), disksCountQuota, { limit: 8, usage: 8, required: 9 });
  });

  it('takes what a disk grows by', async () => {
    const quota = diskSizeQuotas['network-hdd'];
    await kit.setLimit(quota, 100 * MiB);
    const { id } = await kit.createDisk({ size: BigInt(64 * MiB) });
    const grow = (size: number) =>
      kit.disks.update(UpdateDiskRequest.fromPartial({ diskId: id, size: BigInt(size), updateMask: ['size'] }), kit.call());
    await refused(grow(104 * MiB), quota, { limit: 100 * MiB, usage: 64 * MiB, required: 104 * MiB });
    expect((await kit.disk(id)).size).to.equal(64 * MiB);
    await grow(100 * MiB);
    expect(await usage(quota)).to.equal(100 * MiB);
    // What takes nothing is not refused, even where more is used than may be.
    await kit.setLimit(quota, 1);
    await grow(100 * MiB);
    await kit.disks.delete({ diskId: id }, kit.call());
    expect(await usage(quota)).to.equal(0);
  });

  it('counts snapshots by the size of their disk', async () => {
    const { id: diskId } = await kit.createDisk({ size: BigInt(300 * GiB) });
    await kit.createSnapshot({ diskId });
    expect(await usage(snapshotsSizeQuota)).to.equal(300 * GiB);
    const numbers = { limit: 400 * GiB, usage: 300 * GiB, required: 600 * GiB };
    await refused(kit.createSnapshot({ diskId }), snapshotsSizeQuota, numbers);
    await kit.setLimit(snapshotsSizeQuota, 'unlimited');
    await kit.setLimit(snapshotsCountQuota, 1);
    await refused(kit.createSnapshot({ diskId }), snapshotsCountQuota, { limit: 1, usage: 1, required: 2 });
  });

  it('counts images by the size of their disk, wherever they come from', async () => {
    const { id: diskId } = await kit.createDisk({ size: BigInt(400 * GiB) });
    const first = await kit.createImage({ source: { $case: 'diskId', value: diskId } });
    await kit.createImage({ source: { $case: 'imageId', value: first.id } });
    const numbers = { limit: 1024 * GiB, usage: 800 * GiB, required: 1200 * GiB };
    await refused(kit.makeImage({ source: { $case: 'imageId', value: first.id } }), imagesSizeQuota, numbers);
    const { id: snapshotId } = await kit.createSnapshot({ diskId });
    await refused(kit.makeImage({ source: { $case: 'snapshotId', value: snapshotId } }), imagesSizeQuota, numbers);
    kit.contents.unsettled.add(diskId);
    await refused(kit.makeImage({ source: { $case: 'diskId', value: diskId } }), imagesSizeQuota, numbers);
    await refused(kit.makeImage({ source: { $case: 'imageId', value: first.id }, pooled: true }), imagesSizeQuota, numbers);
    await kit.setLimit(imagesSizeQuota, 'unlimited');
    const pooled = { limit: 0, usage: 0, required: 1 };
    await refused(kit.makeImage({ source: { $case: 'imageId', value: first.id }, pooled: true }), pooledImagesQuota, pooled);
    await kit.setLimit(imagesCountQuota, 2);
    await refused(kit.makeImage({ source: { $case: 'imageId', value: first.id } }), imagesCountQuota, {
      limit: 2,
      usage: 2,
      required: 3,
    });
  });

  describe('of an import', () => {
    /** An image that is being imported, by an attempt of a job. */
    const importing = async () => {
      const operation = await kit.makeImage({ source: { $case: 'uri', value: 'https://images.example/disk.img' } });
      const job = { operationId: operation.id, attempt: 1 };
      const claim = (attempt: number) =>
        query(kit.fork(), `update jobs set attempt = $2, lease_until = now() + interval '1 hour' where operation_id = $1`, [
          operation.id,
          attempt,
        ]);
      await claim(1);
      return { id: imageIdOf(operation), job, claim };
    };
    const size = async (id: string) => (await kit.image(id)).size;

    it('takes the size once, however many attempts find it', async () => {
      const { id, job, claim } = await importing();
      expect(await usage(imagesSizeQuota)).to.equal(0);
      await takeSize(kit.fork, job, id, 600 * GiB);
      await takeSize(kit.fork, job, id, 600 * GiB);
      await claim(2);
      await takeSize(kit.fork, { ...job, attempt: 2 }, id, 600 * GiB);
      expect(await usage(imagesSizeQuota)).to.equal(600 * GiB);
      // The file is another one by now.
      await takeSize(kit.fork, { ...job, attempt: 2 }, id, 700 * GiB);
      await takeSize(kit.fork, { ...job, attempt: 2 }, id, 500 * GiB);
      expect(await usage(imagesSizeQuota)).to.equal(500 * GiB);
    });

    it('is refused what does not fit, and keeps what it had', async () => {
      const [one, two] = [await importing(), await importing()];
      await takeSize(kit.fork, one.job, one.id, 1000 * GiB);
      const numbers = { limit: 1024 * GiB, usage: 1000 * GiB, required: 1025 * GiB };
      await refused(takeSize(kit.fork, two.job, two.id, 25 * GiB), imagesSizeQuota, numbers);
      expect(await size(two.id)).to.equal(0);
      await takeSize(kit.fork, two.job, two.id, 24 * GiB);
      const more = { limit: 1024 * GiB, usage: 1024 * GiB, required: 1025 * GiB };
      await refused(takeSize(kit.fork, two.job, two.id, 25 * GiB), imagesSizeQuota, more);
      expect(await size(two.id)).to.equal(24 * GiB);
    });

    it('takes nothing after another attempt has taken over, or for an image that is being deleted', async () => {
      const { id, job, claim } = await importing();
      await claim(2);
      expect(await takeSize(kit.fork, job, id, GiB).catch((error: unknown) => error)).to.be.instanceOf(LeaseLost);
      expect(await size(id)).to.equal(0);
      await kit.images.delete({ imageId: id }, kit.call());
      await expectRefusal(takeSize(kit.fork, { ...job, attempt: 2 }, id, GiB), 'FAILED_PRECONDITION', /is DELETING/);
      expect(await usage(imagesSizeQuota)).to.equal(0);
    });

    it('never over-runs the limit, however many there are', async () => {
      await kit.setLimit(runningOperationsQuota, 'unlimited');
      const imports = await Promise.all(Array.from({ length: 24 }, importing));
      const outcomes = await Promise.allSettled(imports.map(({ id, job }) => takeSize(kit.fork, job, id, 100 * GiB)));
      expect(outcomes.filter(({ status }) => status === 'fulfilled').length).to.equal(10);
      expect(await usage(imagesSizeQuota)).to.equal(1000 * GiB);
    });
  });

  it('lets 15 operations run in a folder, deletes besides, and counts each until it ends', async () => {
    const start = (folderId = kit.folderId) =>
      kit.makeImage({ folderId, source: { $case: 'uri', value: 'https://images.example/disk.img' } });
    const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => start()));
    const started = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
    expect(started.length).to.equal(15);
    expect(await usage(imagesCountQuota)).to.equal(15);
    await refused(start(), runningOperationsQuota, { limit: 15, usage: 15, required: 16 });
    await kit.createDisk();
    const deletes = await Promise.all(
      started.slice(0, 3).map((operation) => kit.images.delete({ imageId: imageIdOf(operation) }, kit.call())),
    );
    expect(deletes.every(({ done }) => !done)).to.equal(true);
    expect(await usage(runningOperationsQuota)).to.equal(15);
    // Each folder by itself: the cloud's usage is that of the fullest.
    const [other] = await query<{ id: string }>(
      kit.fork(),
      `insert into folders (id, cloud_id, created_at, name, description, labels, status)
       values ('b1gother', $1, now(), 'other', '', '{}', 'ACTIVE') returning id`,
      [kit.cloudId],
    );
    await start(other!.id);
    expect(await usage(runningOperationsQuota)).to.equal(15);
    await query(kit.fork(), 'delete from jobs where operation_id = $1', [started[5]!.id]);
    expect(await usage(runningOperationsQuota)).to.equal(14);
    await start();
  });

  it('is never over-run by creates that race, with each other and with limits', async () => {
    const source = (await kit.createImage({ source: { $case: 'diskId', value: (await kit.createDisk()).id } })).id;
    await kit.setLimit(imagesCountQuota, 10);
    const creates = Array.from({ length: 60 }, () => kit.makeImage({ source: { $case: 'imageId', value: source } }));
    const lowered = kit.setLimit(imagesSizeQuota, 64 * MiB * 8);
    const outcomes = await Promise.allSettled(creates);
    await lowered;
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') expect((outcome.reason as DomainError).code).to.equal('RESOURCE_EXHAUSTED');
    const made = outcomes.filter(({ status }) => status === 'fulfilled').length;
    expect(await usage(imagesCountQuota)).to.equal(made + 1);
    expect(made).to.be.within(7, 9);
  });

  it('has no limits in the cloud that belongs to everybody', async () => {
    await kit.createDisk({ folderId: 'standard-images', size: BigInt(1000 * GiB) });
    expect(await usage(disksCountQuota)).to.equal(0);
  });

  it('is asked by indexes alone', async () => {
    await query(
      kit.fork(),
      `insert into folders (id, cloud_id, created_at, name, description, labels, status)
       select 'b1gfolder' || n, 'b1gcloud' || n / 10, now(), 'folder' || n, '', '{}', 'ACTIVE' from generate_series(1, 1000) n`,
    );
    const fill = async (table: string, sample: { id: string }) => {
      const columns = await query<{ name: string }>(
        kit.fork(),
        `select column_name as name from information_schema.columns where table_name = $1 and column_name not in ('id', 'folder_id')`,
        [table],
      );
      const names = columns.map(({ name }) => name).join(', ');
      await query(
        kit.fork(),
        `insert into ${table} (id, folder_id, ${names})
         select '${table}' || n, 'b1gfolder' || n % 1000, ${names} from ${table}, generate_series(1, 20000) n where id = $1`,
        [sample.id],
      );
      await query(kit.fork(), `analyze ${table}`);
    };
    const disk = await kit.createDisk();
    await fill('disks', disk);
    await fill('images', await kit.createImage({ source: { $case: 'diskId', value: disk.id } }));
    await fill('snapshots', await kit.createSnapshot({ diskId: disk.id }));
    await query(
      kit.fork(),
      `insert into jobs (operation_id, kind, payload, run_at, counted_folder_id)
       select 'job' || n, 'test', '{}', now(), 'b1gfolder' || n % 1000 from generate_series(1, 5000) n`,
    );
    await query(
      kit.fork(),
      `insert into service_accounts (id, folder_id, created_at, name, description, labels, status)
       select 'account' || n, 'b1gfolder' || n % 1000, now(), 'account' || n, repeat('x', 250), '{}', 'ACTIVE' from generate_series(1, 20000) n`,
    );
    for (const table of ['jobs', 'service_accounts', 'folders', 'clouds']) await query(kit.fork(), `analyze ${table}`);
    for (const place of ['cloud', 'folder'] as const)
      for (const some of [quotas, ...quotas.map((quota) => [quota])]) {
        const sql = usagesSql(some, place).replaceAll('$1', `'b1gcloud7'`).replaceAll('$2', `'b1gfolder7'`);
        const [row] = await query<{ 'QUERY PLAN': object }>(kit.fork(), `explain (format json) ${sql}`);
        expect(JSON.stringify(row!['QUERY PLAN']), sql).not.to.include('Seq Scan');
      }
  });

  it('holds for what is moved within the cloud', async () => {
    await query(
      kit.fork(),
      `insert into folders (id, cloud_id, created_at, name, description, labels, status)
       values ('b1gother', $1, now(), 'other', '', '{}', 'ACTIVE')`,
      [kit.cloudId],
    );
    const { id } = await kit.createDisk();
    await kit.setLimit(disksCountQuota, 1);
    await kit.disks.move({ diskId: id, destinationFolderId: 'b1gother' }, kit.call());
    expect(await usage(disksCountQuota)).to.equal(1);
    expect(await usage(diskSizeQuotas['network-hdd'])).to.equal(64 * MiB);
  });
});
