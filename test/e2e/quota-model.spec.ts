// Random lives of everything that counts against quotas, in small clouds: creates one by one and many at once, growth, moves, deletes,
// cancellations, limits that change, and kills of the service. After every step what QuotaLimitService shows is what the rows say and no
// limit is over-run; every refusal names the numbers as they were; when all is quiet the lists say the same, and in the end nothing is used.
// OBRAZ_TEST_SEED repeats what is chosen; what the service does meanwhile has its own time.
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { Status } from '../../generated/google/rpc/status.ts';
import { UpdateDiskRequest } from '../../generated/yandex/cloud/compute/v1/disk_service.ts';
import type { Operation } from '../../generated/yandex/cloud/operation/operation.ts';
import { ObrazClient, unary } from '../support/client.ts';
import { Random } from '../support/model/random-changes.ts';
import { Obraz } from '../support/obraz.ts';
import { removeDataFolder, type TestDatabase, testDatabase } from '../support/postgres.ts';
import { QuotaClient, quotaFailureIn, quotaFailureOf } from '../support/quota-client.ts';
import { isLongRun, testSeed } from '../support/sample.ts';
import { rows } from '../support/slow-import.ts';
import { startWebServer, type WebServer } from '../support/web-server.ts';

const MiB = 1024 * 1024;
const sequences = isLongRun ? 4 : 1;
const steps = isLongRun ? 150 : 16;
const patienceMs = 120_000;

const limits: Record<string, number> = {
  'compute.images.count': 8,
  'compute.images.size': 64 * MiB,
  'compute.diskPools.count': 2,
  'compute.snapshots.count': 5,
  'compute.snapshots.size': 48 * MiB,
  'compute.disks.count': 6,
  'compute.hddDisks.size': 48 * MiB,
  'compute.ssdDisks.size': 24 * MiB,
  'compute.runningOperations.count': 4,
};

/** What the rows say, by formulas of the test's own. */
const counted = `
  with here as (select id from folders where cloud_id = $1)
  select (select count(*) from images where folder_id in (select id from here)) as "compute.images.count",
         (select sum(size) from images where folder_id in (select id from here)) as "compute.images.size",
         (select count(*) from images where pooled and folder_id in (select id from here)) as "compute.diskPools.count",
         (select count(*) from snapshots where folder_id in (select id from here)) as "compute.snapshots.count",
         (select sum(disk_size) from snapshots where folder_id in (select id from here)) as "compute.snapshots.size",
         (select count(*) from disks where folder_id in (select id from here)) as "compute.disks.count",
         (select sum(size) from disks where type_id = 'network-hdd' and folder_id in (select id from here)) as "compute.hddDisks.size",
         (select sum(size) from disks where type_id = 'network-ssd' and folder_id in (select id from here)) as "compute.ssdDisks.size",
         (select max(running) from (
            select count(*) as running from operations join jobs on jobs.operation_id = operations.id
            where not done and description like 'Create %' and folder_id in (select id from here) group by folder_id
          ) folders) as "compute.runningOperations.count"`;

describe(`random lives of what quotas count (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(15 * 60_000);

  for (let index = 0; index < sequences; index += 1) {
    const seed = testSeed + index;
    it(`never over-run a limit, and use what the rows say, through ${steps} steps of seed ${seed}`, async () => {
      await using model = await QuotaModel.start(new Random(seed));
      try {
        for (let step = 0; step < steps; step += 1) {
          await model.step();
          await model.check();
          if (step === steps / 2) await model.kill();
        }
        await model.finish();
      } catch (error) {
        const story = `seed ${seed}:\n  ${model.trace.join('\n  ')}\n\n${model.output.slice(-20_000)}`;
        throw new Error(`${(error as Error).message}\n${story}`, { cause: error });
      }
    });
  }
});

type Kind = 'images' | 'disks' | 'snapshots';

class QuotaModel implements AsyncDisposable {
  readonly trace: string[] = [];
  readonly #random: Random;
  readonly #database: TestDatabase;
  readonly #dataDirectory: string;
  readonly #web: WebServer;
  /** What may be used: the limit, or what was used when it became less. */
  readonly #ceilings = new Map<string, number>();
  readonly #limits = new Map<string, number>();
  #otherFolderId = '';
  #obraz!: Obraz;
  #client!: ObrazClient;
  #quotas!: QuotaClient;

  private constructor(random: Random, database: TestDatabase, dataDirectory: string, web: WebServer) {
    this.#random = random;
    this.#database = database;
    this.#dataDirectory = dataDirectory;
    this.#web = web;
  }

  static async start(random: Random): Promise<QuotaModel> {
    const database = await testDatabase();
    const dataDirectory = await mkdtemp(path.join(tmpdir(), 'obraz-quotas-'));
    const web = await startWebServer({ content: new Uint8Array(0) });
    // The path says what is served: /<MiB>/fast, /<MiB>/slow, /<MiB>/missing.
    web.behave(({ path: asked }) => {
      const [, size, way] = asked.split('/');
      const content = Buffer.alloc(Number(size) * MiB, `some bytes of ${asked}`);
      if (way === 'missing') return { status: 404 };
      return way === 'slow' ? { content, trickle: { bytes: 256 * 1024, everyMs: 20 } } : { content };
    });
    const model = new QuotaModel(random, database, dataDirectory, web);
    try {
      await model.#startService();
      for (const [id, limit] of Object.entries(limits)) await model.#setLimit(id, limit);
      model.#otherFolderId = 'b1gotherfolder000000';
      await model.#rows(
        `insert into folders (id, cloud_id, created_at, name, description, labels, status)
         values ($1, $2, now(), 'other', '', '{}', 'ACTIVE')`,
        [model.#otherFolderId, model.#quotas.cloudId],
      );
      return model;
    } catch (error) {
      await model[Symbol.asyncDispose]();
      throw error;
    }
  }

  get output(): string {
    return this.#obraz.output;
  }

  async #startService(): Promise<void> {
    const environment = { DATABASE_URL: this.#database.url };
    this.#obraz = await Obraz.start({ dataDirectory: this.#dataDirectory, environment, limits: 'as set' });
    this.#client = await ObrazClient.of(this.#obraz);
    this.#quotas = await QuotaClient.of(this.#obraz, this.#client);
  }

  #rows<Row extends Record<string, unknown>>(sql: string, values: unknown[] = []): Promise<Row[]> {
    return rows<Row>(this.#database.url, sql, values);
  }

  #note(text: string): void {
    this.trace.push(text);
  }

  async #setLimit(id: string, limit: number): Promise<void> {
    const used = await this.#quotas.setLimit(id, limit);
    this.#note(`limit ${id} ${limit}, ${used} used`);
    this.#limits.set(id, limit);
    this.#ceilings.set(id, Math.max(limit, used));
  }

  async step(): Promise<void> {
    const choices: [number, () => Promise<void>][] = [
      [14, () => this.#together(1)],
      [5, () => this.#together(2 + this.#random.integer(10))],
      [8, this.#delete],
      [4, this.#cancel],
      [4, this.#grow],
      [3, this.#move],
      [4, this.#changeLimit],
      [2, this.kill],
      [3, this.#quiet],
    ];
    let roll = this.#random.integer(choices.reduce((sum, [weight]) => sum + weight, 0));
    await choices.find(([weight]) => (roll -= weight) < 0)![1].call(this);
  }

  /** Creates of all kinds at once; each succeeds or is refused for a quota. */
  async #together(count: number): Promise<void> {
    const ready = await this.#readyIds();
    const creates = Array.from({ length: count }, () => this.#create(ready));
    const outcomes = await Promise.allSettled(creates.map((start) => start()));
    for (const outcome of outcomes) if (outcome.status === 'rejected') this.#refused(outcome.reason);
  }

  async #readyIds(): Promise<Record<Kind, string[]>> {
    const of = async (kind: Kind) =>
      (await this.#rows<{ id: string }>(`select id from ${kind} where status = 'READY' order by created_at, id`)).map(
        ({ id }) => id,
      );
    return { images: await of('images'), disks: await of('disks'), snapshots: await of('snapshots') };
  }

  #create(ready: Record<Kind, string[]>): () => Promise<Operation> {
    const random = this.#random;
    const folderId = random.chance(0.3) ? this.#otherFolderId : this.#client.folderId;
    const sizeMiB = 4 * (1 + random.integer(4));
    const pooled = random.chance(0.2);
    const image = (source: Parameters<ObrazClient['createImage']>[0]['source'], what: string) => {
      this.#note(`image of ${what}${pooled ? ', pooled' : ''}`);
      return () => this.#client.createImage({ folderId, pooled, source });
    };
    const roll = random.integer(10);
    if (roll < 3) {
      const way = random.pick(['fast', 'fast', 'slow', 'missing']);
      return image({ $case: 'uri', value: this.#web.url(`/${sizeMiB}/${way}`) }, `${sizeMiB} MiB, ${way}`);
    }
    if (roll < 5 && ready.images.length > 0) {
      const value = random.pick(ready.images);
      return image({ $case: 'imageId', value }, value);
    }
    if (roll < 6 && ready.disks.length > 0) {
      const value = random.pick(ready.disks);
      return image({ $case: 'diskId', value }, value);
    }
    if (roll < 8 && ready.disks.length > 0) {
      const diskId = random.pick(ready.disks);
      this.#note(`snapshot of ${diskId}`);
      return () => this.#client.createSnapshot({ folderId, diskId });
    }
    const typeId = random.pick(['network-hdd', 'network-ssd']);
    this.#note(`disk ${typeId} ${sizeMiB} MiB`);
    return () => this.#client.createDisk({ folderId, typeId, size: BigInt(sizeMiB * MiB) });
  }

  /** @throws what is no refusal for a quota, or one with numbers that cannot have been. */
  #refused(error: unknown): void {
    const { quotaId, quotaValue, description } = quotaFailureOf(error);
    this.#note(`refused: ${description}`);
    const [, usage, limit, required] = /: (\d+) of (\d+) in use, (\d+) needed$/.exec(description)!.map(Number);
    expect(limit, description).to.equal(Number(quotaValue));
    expect(limit, description).to.equal(this.#limits.get(quotaId));
    expect(required, description).to.be.greaterThan(limit!);
    expect(usage, description).to.be.at.most(this.#ceilings.get(quotaId)!);
  }

  async #delete(): Promise<void> {
    const kind = this.#random.pick(['images', 'disks', 'snapshots'] as const);
    const there = await this.#rows<{ id: string }>(`select id from ${kind} where status <> 'DELETING' order by created_at, id`);
    if (there.length === 0) return;
    const { id } = this.#random.pick(there);
    this.#note(`delete ${kind} ${id}`);
    await this.#begin(kind, id).catch((error: { code?: number }) => {
      // Gone meanwhile, by itself.
      if (error.code !== status.NOT_FOUND) throw error;
    });
  }

  #begin(kind: Kind, id: string): Promise<Operation> {
    if (kind === 'images') return this.#client.deleteImage(id);
    return kind === 'disks' ? this.#client.deleteDisk(id) : this.#client.deleteSnapshot(id);
  }

  async #cancel(): Promise<void> {
    const running = await this.#rows<{ id: string }>('select id from operations where not done and cancellable order by id');
    if (running.length === 0) return;
    const { id } = this.#random.pick(running);
    this.#note(`cancel ${id}`);
    await this.#client.cancel(id);
  }

  async #grow(): Promise<void> {
    const disks = await this.#rows<{ id: string; size: string }>('select id, size from disks order by created_at, id');
    if (disks.length === 0) return;
    const { id: diskId, size } = this.#random.pick(disks);
    const wanted = Number(size) + 4 * MiB * (1 + this.#random.integer(3));
    this.#note(`grow ${diskId} to ${wanted}`);
    const { disks: client, metadata } = this.#client;
    const request = UpdateDiskRequest.fromPartial({ diskId, size: BigInt(wanted), updateMask: ['size'] });
    await unary(client, client.update, request, metadata).catch((error: unknown) => this.#refused(error));
  }

  async #move(): Promise<void> {
    const disks = await this.#rows<{ id: string; folder_id: string }>('select id, folder_id from disks order by created_at, id');
    if (disks.length === 0) return;
    const { id: diskId, folder_id: folderId } = this.#random.pick(disks);
    this.#note(`move ${diskId}`);
    const { disks: client, metadata, folderId: mine } = this.#client;
    const destinationFolderId = folderId === mine ? this.#otherFolderId : mine;
    await unary(client, client.move, { diskId, destinationFolderId }, metadata);
  }

  async #changeLimit(): Promise<void> {
    const id = this.#random.pick(Object.keys(limits));
    const usual = limits[id]!;
    await this.#setLimit(id, this.#random.chance(0.4) ? usual : Math.floor((usual * (1 + this.#random.integer(6))) / 4));
  }

  /** With creates under way. */
  async kill(): Promise<void> {
    const ready = await this.#readyIds();
    const underWay = Promise.allSettled(Array.from({ length: 6 }, () => this.#create(ready)()));
    await sleep(this.#random.integer(40));
    this.#note('kill');
    await this.#obraz.kill();
    await underWay;
    this.#close();
    // As if the time of leases had passed.
    await this.#rows('update jobs set lease_until = now()');
    await this.#startService();
  }

  /** What is shown is what is there, and no limit is over-run. Both are looked at until nothing happens in between. */
  async check(): Promise<Record<string, number>> {
    for (const deadline = Date.now() + patienceMs; ; await sleep(20)) {
      const before = await this.#counted();
      const shown = await this.#quotas.usages();
      const after = await this.#counted();
      for (const [id, usage] of Object.entries(shown)) {
        const ceiling = this.#ceilings.get(id);
        if (ceiling !== undefined) expect(usage, id).to.be.at.most(ceiling);
      }
      if (JSON.stringify(before) !== JSON.stringify(after) && Date.now() < deadline) continue;
      expect(shown).to.deep.include(after);
      return shown;
    }
  }

  async #counted(): Promise<Record<string, number>> {
    const [row] = await this.#rows<Record<string, string | null>>(counted, [this.#quotas.cloudId]);
    return Object.fromEntries(Object.entries(row!).map(([id, value]) => [id, Number(value ?? 0)]));
  }

  /** Waits until every operation is done. Then clients can tell from their lists what is used. */
  async #quiet(): Promise<void> {
    this.#note('wait');
    for (const deadline = Date.now() + patienceMs; ; await sleep(50)) {
      const [row] = await this.#rows<{ count: number }>('select count(*)::int as count from operations where not done');
      if (row!.count === 0) break;
      if (Date.now() > deadline) throw new Error(`${row!.count} operations have not ended`);
    }
    await this.#onlyKnownErrors();
    const usage = await this.check();
    const { images, disks, snapshots, metadata } = this.#client;
    const listed = { images: 0, imageBytes: 0, pooled: 0, disks: 0, hdd: 0, ssd: 0, snapshots: 0, snapshotBytes: 0 };
    for (const folderId of [this.#client.folderId, this.#otherFolderId]) {
      const request = { folderId, pageSize: 1000n, pageToken: '', filter: '', orderBy: '' };
      for (const image of (await unary(images, images.list, request, metadata)).images) {
        listed.images += 1;
        listed.imageBytes += Number(image.size);
        listed.pooled += image.pooled ? 1 : 0;
      }
      for (const disk of (await unary(disks, disks.list, request, metadata)).disks) {
        listed.disks += 1;
        listed[disk.typeId === 'network-hdd' ? 'hdd' : 'ssd'] += Number(disk.size);
      }
      for (const snapshot of (await unary(snapshots, snapshots.list, request, metadata)).snapshots) {
        listed.snapshots += 1;
        listed.snapshotBytes += Number(snapshot.diskSize);
      }
    }
    expect(usage).to.include({
      'compute.images.count': listed.images,
      'compute.images.size': listed.imageBytes,
      'compute.diskPools.count': listed.pooled,
      'compute.disks.count': listed.disks,
      'compute.hddDisks.size': listed.hdd,
      'compute.ssdDisks.size': listed.ssd,
      'compute.snapshots.count': listed.snapshots,
      'compute.snapshots.size': listed.snapshotBytes,
      'compute.runningOperations.count': 0,
    });
  }

  /** Imports fail for what is not there and for the quota of sizes; operations are cancelled. Nothing else happens to any. */
  async #onlyKnownErrors(): Promise<void> {
    for (const { error } of await this.#rows<{ error: Buffer }>('select error from operations where error is not null')) {
      const told = Status.decode(error);
      if (told.code === (status.RESOURCE_EXHAUSTED as number))
        expect(quotaFailureIn(told).quotaId).to.equal('compute.images.size');
      else
        expect(told.code, told.message).to.be.oneOf([
          status.CANCELLED,
          status.INVALID_ARGUMENT,
          status.NOT_FOUND,
          status.FAILED_PRECONDITION,
        ]);
    }
  }

  async finish(): Promise<void> {
    await this.#quiet();
    for (const kind of ['images', 'disks', 'snapshots'] as const)
      for (const { id } of await this.#rows<{ id: string }>(`select id from ${kind}`)) {
        await this.#client.wait(await this.#begin(kind, id));
      }
    await this.#quiet();
    expect(Object.values(await this.check()).every((usage) => usage === 0)).to.equal(true);
  }

  #close(): void {
    this.#quotas?.[Symbol.dispose]();
    this.#client?.[Symbol.dispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#close();
    await this.#obraz?.[Symbol.asyncDispose]();
    await this.#web[Symbol.asyncDispose]();
    await removeDataFolder(this.#dataDirectory);
    await this.#database.dispose();
  }
}
