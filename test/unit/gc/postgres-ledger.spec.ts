// The ledger and the admission of garbage collection on a real PostgreSQL; and both with real layers in a store in memory.
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { query } from '../../../src/db/bound-query.ts';
import { AttachSessionSchema } from '../../../src/attach/attach-session.entity.ts';
import { DiskSchema } from '../../../src/disks/disk.entity.ts';
import { Admissions } from '../../../src/gc/admission.ts';
import { deleteBoundMs } from '../../../src/gc/claims.ts';
import { CollectorSession } from '../../../src/gc/collector-session.ts';
import { CondemnedObjectSchema } from '../../../src/gc/condemned-object.entity.ts';
import { PostgresLedger } from '../../../src/gc/postgres-ledger.ts';
import { ImageSchema } from '../../../src/images/image.entity.ts';
import { JobSchema } from '../../../src/operations/job.entity.ts';
import { TransientError } from '../../../src/platform/errors.ts';
import { SnapshotSchema } from '../../../src/snapshots/snapshot.entity.ts';
import type { Admission } from '../../../src/storage/admission.ts';
import { memoryBlobStore } from '../../../src/storage/drivers/memory.ts';
import { collectGarbage } from '../../../src/storage/gc.ts';
import type { Condemned } from '../../../src/storage/ledger.ts';
import { openStorageOn } from '../../../src/storage/open.ts';
import { objectKey } from '../../../src/storage/paths.ts';
import { chunkBytes } from '../../../src/storage/sizes.ts';
import { errorOf } from '../../contract/blob-store.contract.ts';
import { type TestOrm, testOrm } from '../../support/test-orm.ts';

const root = (digit: string) => digit.repeat(64);

describe('the ledger of garbage collection in PostgreSQL', function () {
  this.timeout(60_000);
  let database: TestOrm;
  let session: CollectorSession;
  let ledger: PostgresLedger;
  let admissions: Admissions;

  const sql = <Row>(text: string, values: unknown[] = []) => query<Row>(database.orm.em.fork(), text, values);
  const fork = () => database.orm.em.fork();

  before(async () => {
    database = await testOrm([ImageSchema, DiskSchema, SnapshotSchema, JobSchema, CondemnedObjectSchema, AttachSessionSchema]);
  });
  after(() => database?.[Symbol.asyncDispose]());

  beforeEach(async () => {
    await sql('truncate images, disks, snapshots, attach_sessions, jobs, condemned_objects');
    session = (await CollectorSession.open(database.url))!;
    ledger = new PostgresLedger(session);
    admissions = new Admissions({ fork });
  });
  afterEach(() => session?.[Symbol.asyncDispose]());

  const addJob = (
    id: string,
    { attempt = 1, leaseMs = 60_000, pinned = [] }: { attempt?: number; leaseMs?: number | null; pinned?: string[] } = {},
  ) =>
    sql(
      `insert into jobs (operation_id, kind, payload, pinned_roots, attempt, run_at, lease_until)
       values ($1, 'test', '{}', $2, $3, now(), now() + $4 * interval '1 millisecond')`,
      [id, pinned, attempt, leaseMs],
    );

  const addImage = (id: string, layerRoot: string | null, status = 'READY') =>
    sql(
      `insert into images (id, folder_id, created_at, name, description, labels, family, size, storage_size, min_disk_size, product_ids,
         status, os, hardware_generation, pooled, layer_root)
       values ($1, 'f', now(), $1, '', '{}', '', 0, 0, 0, '{}', $3, '{}', '{}', false, $2)`,
      [id, layerRoot, status],
    );

  const addDisk = (id: string, layerRoot: string | null) =>
    sql(
      `insert into disks (id, folder_id, created_at, name, description, labels, type_id, zone_id, size, block_size, product_ids, status,
         source_image_id, source_snapshot_id, os, hardware_generation, placement_group_id, placement_group_partition, layer_root)
       values ($1, 'f', now(), $1, '', '{}', 't', 'z', 0, 4096, '{}', 'READY', '', '', '{}', '{}', '', 0, $2)`,
      [id, layerRoot],
    );

  const addSnapshot = (id: string, layerRoot: string | null) =>
    sql(
      `insert into snapshots (id, folder_id, created_at, name, description, labels, storage_size, disk_size, product_ids, status,
         source_disk_id, os, hardware_generation, layer_root)
       values ($1, 'f', now(), $1, '', '{}', 0, 0, '{}', 'READY', 'd', '{}', '{}', $2)`,
      [id, layerRoot],
    );

  const addSession = (id: string, baseRoot: string | null) =>
    sql(
      `insert into attach_sessions (id, machine_id, resource_id, mode, subject_id, peer, created_at, lease_until, base_root)
       values ($1, 'm', 'd', 'READ_ONLY', 's', '', now(), now(), $2)`,
      [id, baseRoot],
    );

  async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
    const list: T[] = [];
    for await (const item of items) list.push(item);
    return list;
  }

  const expired = (): Promise<Condemned[]> => all(ledger.expired());
  const expiredKeys = async () => (await expired()).map(({ key }) => key);
  const orphanAge = (ms: number) => sql(`update condemned_objects set orphaned_at = orphaned_at - $1 * interval '1 ms'`, [ms]);

  it('answers the roots of images, disks and snapshots in every state, of what is open, and the pins of all jobs, each once', async () => {
    await addImage('a', root('a'));
    await addImage('b', root('b'), 'DELETING');
    await addImage('c', null, 'CREATING');
    await addImage('d', root('a'));
    await addDisk('e', root('a'));
    await addDisk('f', root('e'));
    await addDisk('g', null);
    await addSnapshot('h', root('f'));
    await addSnapshot('i', null);
    await addSession('j', root('3'));
    await addSession('k', null);
    await addJob('leased', { pinned: [root('1'), root('b')] });
    await addJob('waiting', { leaseMs: null, pinned: [root('2')] });
    expect((await all(ledger.roots())).sort()).to.deep.equal(['1', '2', '3', 'a', 'b', 'e', 'f'].map(root));
  });

  it('condemns an object once, and lets it expire at once when nobody writes', async () => {
    expect(await ledger.condemn(['k1', 'k2'])).to.equal(2);
    expect(await ledger.condemn(['k2', 'k3'])).to.equal(1);
    expect(await expiredKeys()).to.deep.equal(['k1', 'k2', 'k3']);
  });

  it('waits for the end of the attempts that were there, by commit, retry or another claim, and for no later ones', async () => {
    await addJob('ends');
    await addJob('retries');
    await addJob('lapses', { leaseMs: -1000 });
    await ledger.condemn(['k']);
    await addJob('later');
    expect(await expired()).to.deep.equal([]);
    await sql(`delete from jobs where operation_id = 'ends'`);
    expect(await expired()).to.deep.equal([]);
    await sql(`update jobs set lease_until = null where operation_id = 'retries'`);
    expect(await expired(), 'a lease that ran out may have a commit under way').to.deep.equal([]);
    await sql(`update jobs set attempt = 2, lease_until = now() + interval '1 minute' where operation_id = 'lapses'`);
    expect(await expiredKeys()).to.deep.equal(['k']);
  });

  it('notes the writers of condemnations that a dead collector left without a note', async () => {
    await sql(`insert into condemned_objects (key, condemnation, condemned_at) values ('old', 'c', now())`);
    expect(await expired()).to.deep.equal([]);
    await ledger.condemn([]);
    expect(await expiredKeys()).to.deep.equal(['old']);
  });

  it('withdraws a condemnation when a writer asks, and only then tells it to write anew', async () => {
    await addJob('op');
    await ledger.condemn(['k1', 'k2']);
    const admission = admissions.of({ operationId: 'op', attempt: 1 });
    expect(await admission(['k1', 'other', 'k1'])).to.deep.equal(['rewrite', 'fresh', 'rewrite']);
    expect(await admission(['k1'])).to.deep.equal(['fresh']);
    expect(await sql('select key from condemned_objects')).to.deep.equal([{ key: 'k2' }]);
  });

  it('refuses attempts that are over, whose lease has ended or that never were, and withdraws nothing for them', async () => {
    await addJob('taken', { attempt: 2 });
    await addJob('lapsed', { leaseMs: -1 });
    await addJob('waiting', { leaseMs: null });
    await ledger.condemn(['k']);
    for (const writer of ['taken', 'lapsed', 'waiting', 'none'].map((operationId) => ({ operationId, attempt: 1 }))) {
      const error = await errorOf(admissions.of(writer)(['k']));
      expect(error, writer.operationId).to.be.instanceOf(TransientError);
    }
    expect(await expiredKeys()).to.deep.equal([]);
    expect(await sql('select key from condemned_objects')).to.deep.equal([{ key: 'k' }]);
  });

  it('answers each of many writers that ask at the same time for itself', async () => {
    for (let index = 0; index < 20; index += 1) await addJob(`op${index}`, { attempt: index % 2 });
    await ledger.condemn(['k3', 'k5']);
    const answers = await Promise.allSettled(
      Array.from({ length: 20 }, (_, index) => admissions.of({ operationId: `op${index}`, attempt: 1 })([`k${index}`])),
    );
    expect(answers.map((answer) => (answer.status === 'fulfilled' ? answer.value[0] : 'refused'))).to.deep.equal(
      Array.from({ length: 20 }, (_, index) => (index % 2 === 0 ? 'refused' : index === 3 || index === 5 ? 'rewrite' : 'fresh')),
    );
  });

  it('claims only what still stands as it was condemned', async () => {
    await addJob('op');
    await ledger.condemn(['again', 'stands', 'withdrawn']);
    await sql('delete from jobs');
    const before = await expired();
    await addJob('op');
    await admissions.of({ operationId: 'op', attempt: 1 })(['withdrawn', 'again']);
    await ledger.condemn(['again']);
    await using claim = await ledger.claim(before);
    expect(claim.keys).to.deep.equal(['stands']);
  });

  it('withdraws only what still stands as it was condemned and is not claimed', async () => {
    await ledger.condemn(['claimed', 'stands']);
    const before = await expired();
    await using _claim = await ledger.claim(before.filter(({ key }) => key === 'claimed'));
    await ledger.withdraw([...before, { key: 'stands', condemnation: 'another' }]);
    expect(await sql('select key from condemned_objects')).to.deep.equal([{ key: 'claimed' }]);
  });

  it('holds a put back until the claim is settled, and then says that the object is new', async () => {
    await addJob('op');
    await ledger.condemn(['k']);
    await sql('delete from jobs');
    const claim = await ledger.claim(await expired());
    await addJob('op');
    let answer: unknown;
    const asking = admissions
      .of({ operationId: 'op', attempt: 1 })(['k'])
      .then((answers) => (answer = answers));
    await sleep(300);
    expect(answer).to.equal(undefined);
    claim.begin('k');
    await claim.settle(['k']);
    await claim[Symbol.asyncDispose]();
    expect(await asking).to.deep.equal(['fresh']);
  });

  it('gives up a put, as transient, when the claim does not end in time', async () => {
    await ledger.condemn(['k']);
    await using _claim = await ledger.claim(await expired());
    await addJob('op');
    const impatient = new Admissions({ fork, waitMs: 300 });
    expect(await errorOf(impatient.of({ operationId: 'op', attempt: 1 })(['k']))).to.be.instanceOf(TransientError);
  });

  it('gives back what was not begun at once, and what was begun when a delete must have ended', async () => {
    await ledger.condemn(['begun', 'not-begun']);
    const claim = await ledger.claim(await expired());
    claim.begin('begun');
    await claim[Symbol.asyncDispose]();
    expect(await expiredKeys()).to.deep.equal(['not-begun']);
    await orphanAge(deleteBoundMs);
    expect(await expiredKeys()).to.deep.equal(['begun', 'not-begun']);
  });

  it('keeps the claims of a collector whose session has ended for the time of a delete, and then for nobody', async () => {
    await ledger.condemn(['k1', 'k2']);
    const claim = await ledger.claim(await expired());
    await session[Symbol.asyncDispose]();
    expect(() => claim.begin('k1')).to.throw(TransientError);
    session = (await CollectorSession.open(database.url))!;
    ledger = new PostgresLedger(session);
    expect(await expired()).to.deep.equal([]);
    await addJob('op');
    const impatient = new Admissions({ fork, waitMs: 300 });
    expect(await errorOf(impatient.of({ operationId: 'op', attempt: 1 })(['k1']))).to.be.instanceOf(TransientError);
    await orphanAge(deleteBoundMs);
    expect(await admissions.of({ operationId: 'op', attempt: 1 })(['k1'])).to.deep.equal(['rewrite']);
    expect(await expiredKeys()).to.deep.equal(['k2']);
  });

  it('starts no delete when the database ended the session', async () => {
    await ledger.condemn(['k']);
    const claim = await ledger.claim(await expired());
    await sql(
      `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'obraz-gc' and datname = current_database()`,
    );
    // The news of it takes its time.
    const isRefused = (): boolean => {
      try {
        claim.begin('k');
        return false;
      } catch {
        return true;
      }
    };
    for (let waits = 0; waits < 2000 && !isRefused(); waits += 1) await sleep(10);
    expect(() => claim.begin('k')).to.throw(TransientError);
    expect(await errorOf(claim.settle(['k']))).to.be.instanceOf(Error);
  });

  it('lets one collector run at a time', async () => {
    expect(await CollectorSession.open(database.url)).to.equal(undefined);
    await session[Symbol.asyncDispose]();
    session = (await CollectorSession.open(database.url))!;
    expect(session).not.to.equal(undefined);
  });

  it('never gives one object to a writer and a collector, whoever comes first', async () => {
    await addJob('op');
    const writer = admissions.of({ operationId: 'op', attempt: 1 });
    const keys = Array.from({ length: 40 }, (_, index) => `k${String(index).padStart(2, '0')}`);
    for (let round = 0; round < 10; round += 1) {
      await sql('delete from jobs');
      await ledger.condemn(keys);
      const condemned = await expired();
      expect(condemned.length).to.equal(keys.length);
      await addJob('op');
      const claims: string[] = [];
      const collecting = (async () => {
        for (let at = 0; at < condemned.length; at += 8) {
          await using claim = await ledger.claim(condemned.slice(at, at + 8));
          claims.push(...claim.keys);
          await claim.settle(claim.keys);
        }
      })();
      const admitted = (async () => {
        const rewritten: string[] = [];
        for (const key of [...keys].reverse()) if ((await writer([key]))[0] === 'rewrite') rewritten.push(key);
        return rewritten;
      })();
      const [rewritten] = await Promise.all([admitted, collecting]);
      expect([...claims, ...rewritten].sort()).to.deep.equal(keys);
    }
  });

  describe('with layers', () => {
    const objects = new Map<string, Uint8Array>();
    const blobs = memoryBlobStore(objects);
    const content = (seed: number) => Buffer.alloc(chunkBytes, seed);

    beforeEach(() => objects.clear());

    async function write(admission: Admission, ...seeds: number[]): Promise<string> {
      const { chunks, layers } = await openStorageOn(blobs, { admission });
      const builder = await layers.build();
      for (const [index, seed] of seeds.entries()) builder.set(index, await chunks.store(content(seed)));
      return builder.flush();
    }

    const collect = async () => {
      const { layers } = await openStorageOn(blobs);
      return collectGarbage({ blobs, layers, ledger });
    };

    it('deletes what an attempt that was given up stored, and keeps what it shares with an image', async () => {
      await addJob('kept');
      const kept = await write(admissions.of({ operationId: 'kept', attempt: 1 }), 1, 2);
      await addImage('kept', kept);
      await sql('delete from jobs');
      const before = [...objects.keys()].sort();
      await addJob('given-up');
      await write(admissions.of({ operationId: 'given-up', attempt: 1 }), 2, 3);
      await collect();
      await collect();
      expect(objects.size, 'nothing goes while it runs').to.equal(before.length + 3);
      await sql('delete from jobs');
      await collect();
      await collect();
      expect([...objects.keys()].sort()).to.deep.equal(before);
      expect(await sql('select key from condemned_objects')).to.deep.equal([]);
    });

    it('lets an import rely on what was condemned, between the condemnation and the delete', async () => {
      await addJob('first');
      await write(admissions.of({ operationId: 'first', attempt: 1 }), 1);
      await sql('delete from jobs');
      expect(await collect()).to.include({ condemned: 3, deleted: 0 });
      const { chunks } = await openStorageOn(blobs);
      const { address } = chunks.encode(content(1))!;
      // Not even the bytes that are there are relied upon.
      const key = objectKey('chunks', address);
      objects.set(key, new Uint8Array(10));
      await addJob('second');
      const second = await write(admissions.of({ operationId: 'second', attempt: 1 }), 1);
      await addImage('second', second);
      await sql('delete from jobs');
      await collect();
      await collect();
      const bytes = Buffer.alloc(chunkBytes);
      await (await openStorageOn(blobs)).chunks.read(address, bytes, 0);
      expect(bytes.equals(content(1))).to.equal(true);
    });
  });
});
