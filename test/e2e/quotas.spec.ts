// Limits end to end: optimized images are refused by default and allowed by the operator's word, never more of them than that, whatever
// comes at once; QuotaLimitService shows what is so.
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { credentials, type ServiceError, status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { QuotaFailure } from '../../generated/google/rpc/error_details.ts';
import { Status } from '../../generated/google/rpc/status.ts';
import { QuotaAdminServiceClient } from '../../generated/obraz/v1/quota_admin.ts';
import { QuotaLimitServiceClient } from '../../generated/yandex/cloud/quotamanager/v1/quota_limit_service.ts';
import { quotas } from '../../src/quotas.ts';
import { ObrazClient, imageIdOf, unary } from '../support/client.ts';
import { command } from '../support/command.ts';
import { Obraz } from '../support/obraz.ts';
import { removeDataFolder, type TestDatabase, testDatabase } from '../support/postgres.ts';
import { isLongRun } from '../support/sample.ts';
import { rows } from '../support/slow-import.ts';
import { startWebServer } from '../support/web-server.ts';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;
const quotaId = 'compute.diskPools.count';
const type = 'resource-manager.cloud';

describe('quotas end to end', function () {
  this.timeout(120_000);
  let database: TestDatabase;
  let dataDirectory: string;
  let obraz: Obraz;
  let client: ObrazClient;
  let limits: QuotaLimitServiceClient;
  let admin: QuotaAdminServiceClient;
  let cloudId: string;
  let sourceId: string;
  const content = Buffer.alloc(8 * MiB, 'a chunk of its own');

  before(async () => {
    database = await testDatabase();
    dataDirectory = await mkdtemp(path.join(tmpdir(), 'obraz-e2e-'));
    obraz = await Obraz.start({ dataDirectory, environment: { DATABASE_URL: database.url }, limits: 'as set' });
    client = await ObrazClient.of(obraz);
    limits = new QuotaLimitServiceClient(client.address, credentials.createInsecure());
    admin = new QuotaAdminServiceClient(client.address, credentials.createInsecure());
    cloudId = (await obraz.bootstrap()).cloud_id;
    await using web = await startWebServer({ content });
    sourceId = (await client.import({ source: { $case: 'uri', value: web.url() } })).id;
  });

  after(async () => {
    limits?.close();
    admin?.close();
    client?.[Symbol.dispose]();
    await obraz?.[Symbol.asyncDispose]();
    await removeDataFolder(dataDirectory);
    await database?.dispose();
  });

  const failure = (call: Promise<unknown>): Promise<ServiceError> =>
    call.then(
      () => {
        throw new Error('it succeeded');
      },
      (error: ServiceError) => error,
    );

  const pooled = (source: Parameters<ObrazClient['createImage']>[0]['source'] = { $case: 'imageId', value: sourceId }) =>
    client.createImage({ pooled: true, source });

  const resource = () => ({ id: cloudId, type });
  const get = () => unary(limits, limits.get, { resource: resource(), quotaId }, client.metadata);
  const setLimit = (limit: number) =>
    unary(admin, admin.setLimit, { cloudId, quotaId, limit: { $case: 'value', value: BigInt(limit) } }, client.metadata);
  const quota = (...words: string[]) =>
    command({ dataDirectory, environment: { DATABASE_URL: database.url } }, 'quota', ...words);
  const images = () => rows<{ id: string }>(database.url, 'select id from images where pooled');

  it('refuses an optimized image by default, with the documented text and a QuotaFailure', async () => {
    const error = await failure(pooled());
    expect(error.code).to.equal(status.RESOURCE_EXHAUSTED);
    expect(error.details).to.equal(`Limit ${quotaId} exceeded`);
    const [bytes] = error.metadata.get('grpc-status-details-bin');
    const detail = Status.decode(bytes as Buffer).details.find(({ typeUrl }) => typeUrl.endsWith('/google.rpc.QuotaFailure'));
    const [violation] = QuotaFailure.decode(detail!.value).violations;
    expect(violation).to.include({ subject: `cloud:${cloudId}`, quotaId, quotaMetric: quotaId, quotaValue: 0n });
    expect(await images()).to.deep.equal([]);
  });

  it('lists services and limits, and answers one', async () => {
    const page = { pageSize: 0n, pageToken: '' };
    const { services } = await unary(limits, limits.listServices, { resourceType: type, ...page }, client.metadata);
    expect(services.map(({ id }) => id)).to.deep.equal(['compute', 'iam', 'resource-manager']);
    expect(services[0]).to.deep.equal({ id: 'compute', name: 'Compute Cloud' });
    const listed = await unary(limits, limits.list, { resource: resource(), service: 'compute', ...page }, client.metadata);
    expect(listed).to.deep.include({ resource: resource(), nextPageToken: '' });
    expect(listed.quotaLimits).to.deep.equal([
      { quotaId, limit: 0, usage: 0 },
      { quotaId: 'compute.disks.count', limit: 32, usage: 0 },
      { quotaId: 'compute.hddDisks.size', limit: 500 * GiB, usage: 0 },
      { quotaId: 'compute.images.count', limit: 32, usage: 1 },
      { quotaId: 'compute.images.size', limit: 1024 * GiB, usage: 8 * MiB },
      { quotaId: 'compute.runningOperations.count', limit: 15, usage: 0 },
      { quotaId: 'compute.snapshotSchedules.count', limit: 32, usage: 0 },
      { quotaId: 'compute.snapshots.count', limit: 32, usage: 0 },
      { quotaId: 'compute.snapshots.size', limit: 400 * GiB, usage: 0 },
      { quotaId: 'compute.ssdDisks.size', limit: 200 * GiB, usage: 0 },
      { quotaId: 'compute.ssdIOM3Disks.size', limit: 186 * GiB, usage: 0 },
      { quotaId: 'compute.ssdNonReplicatedDisks.size', limit: 558 * GiB, usage: 0 },
    ]);
    expect(await get()).to.deep.equal({ quotaId, limit: 0, usage: 0 });
  });

  const wrong: [string, { id?: string; type?: string; quotaId?: string }, number][] = [
    ['an unknown cloud', { id: 'b1gnothere' }, status.NOT_FOUND],
    ['an unknown quota', { quotaId: 'compute.nothing.count' }, status.NOT_FOUND],
    ['another kind of resource', { type: 'resource-manager.folder' }, status.INVALID_ARGUMENT],
  ];
  for (const [what, change, code] of wrong)
    it(`refuses ${what}`, async () => {
      const request = { resource: { id: change.id ?? cloudId, type: change.type ?? type }, quotaId: change.quotaId ?? quotaId };
      expect((await failure(unary(limits, limits.get, request, client.metadata))).code).to.equal(code);
    });

  it('allows them after the operator set a limit by the command, and shows that', async () => {
    expect(await quota('set', quotaId, '4')).to.deep.equal({ status: 0, out: `${quotaId}: 0 of 4\n`, err: '' });
    const disk = await client.disk({ source: { $case: 'imageId', value: sourceId } });
    const snapshot = await client.snapshot({ diskId: disk.id });
    await using web = await startWebServer({ content });
    const made = await Promise.all([
      pooled(),
      pooled({ $case: 'diskId', value: disk.id }),
      pooled({ $case: 'snapshotId', value: snapshot.id }),
      pooled({ $case: 'uri', value: web.url() }),
    ]);
    for (const operation of made) {
      const image = await client.image(operation);
      expect(image).to.include({ pooled: true, storageSize: BigInt(8 * MiB) });
      expect((await client.getImage(image.id)).status).to.equal(2);
    }
    expect(await get()).to.deep.equal({ quotaId, limit: 4, usage: 4 });
    expect((await failure(pooled())).code).to.equal(status.RESOURCE_EXHAUSTED);
    const listed = await quota('list');
    expect(listed).to.include({ status: 0, err: '' });
    expect(listed.out.split('\n')).to.include.members([`${quotaId}: 4 of 4`, 'compute.images.count: 5 of 32']);
  });

  it('keeps what is there when the limit falls below it, and lets nothing more come', async () => {
    expect(await setLimit(1)).to.deep.equal({ quotaId, limit: 1, usage: 4 });
    expect((await failure(pooled())).code).to.equal(status.RESOURCE_EXHAUSTED);
  });

  it('frees with each image that is deleted, or fails, or is cancelled', async () => {
    for (const { id } of await images()) await client.wait(await client.deleteImage(id));
    expect((await get()).usage).to.equal(0);
    await using web = await startWebServer({ content, behaviour: { status: 404 } });
    const failed = await client.wait(await pooled({ $case: 'uri', value: web.url() }));
    expect(failed.result?.$case).to.equal('error');
    web.behave({ trickle: { bytes: 1024, everyMs: 50 } });
    const running = await pooled({ $case: 'uri', value: web.url() });
    expect((await get()).usage).to.equal(1);
    await client.cancel(running.id);
    await client.wait(running);
    expect((await get()).usage).to.equal(0);
    const again = await pooled({ $case: 'uri', value: web.url() });
    await client.wait(await client.deleteImage(imageIdOf(again)));
    expect((await get()).usage).to.equal(0);
  });

  it('is never over-run, however many come at once', async () => {
    await setLimit(3);
    for (let round = 0; round < (isLongRun ? 3 : 1); round += 1) {
      const outcomes = await Promise.allSettled(Array.from({ length: 12 }, () => pooled()));
      expect(outcomes.filter(({ status: outcome }) => outcome === 'fulfilled').length).to.equal(3);
      for (const outcome of outcomes)
        if (outcome.status === 'rejected') expect((outcome.reason as ServiceError).code).to.equal(status.RESOURCE_EXHAUSTED);
      expect((await images()).length).to.equal(3);
      for (const outcome of outcomes) if (outcome.status === 'fulfilled') await client.image(outcome.value);
      for (const { id } of await images()) await client.wait(await client.deleteImage(id));
    }
  });

  it('sets no limit, or the default again, and refuses what is none', async () => {
    expect((await quota('set', quotaId, 'unlimited')).out).to.equal(`${quotaId}: 0 of unlimited\n`);
    expect(await get()).to.deep.equal({ quotaId, limit: undefined, usage: 0 });
    await client.wait(await client.deleteImage((await client.image(await pooled())).id));
    const reset = { cloudId, quotaId, limit: { $case: 'reset', value: {} } } as const;
    expect(await unary(admin, admin.setLimit, reset, client.metadata)).to.deep.equal({ quotaId, limit: 0, usage: 0 });
    expect(await quota('set', quotaId, '-1')).to.include({ status: 2 });
    expect(await quota('set', 'compute.nothing.count', '1')).to.deep.equal({
      status: 1,
      out: '',
      err: `obraz: Quota compute.nothing.count not found: there are ${quotas.map(({ id }) => id).join(', ')}\n`,
    });
    const negative = { cloudId, quotaId, limit: { $case: 'value', value: -1n } } as const;
    expect((await failure(unary(admin, admin.setLimit, negative, client.metadata))).code).to.equal(status.INVALID_ARGUMENT);
    const [system] = await rows<{ id: string }>(database.url, 'select id from clouds where system');
    const ofSystem = { cloudId: system!.id, quotaId, limit: { $case: 'value', value: 1n } } as const;
    expect((await failure(unary(admin, admin.setLimit, ofSystem, client.metadata))).code).to.equal(status.FAILED_PRECONDITION);
  });

  it('has no limits in the cloud that belongs to everybody', async () => {
    const operation = await client.createImage({
      folderId: 'standard-images',
      pooled: true,
      source: { $case: 'imageId', value: sourceId },
    });
    expect((await client.image(operation)).pooled).to.equal(true);
    expect((await get()).usage).to.equal(0);
  });
});
