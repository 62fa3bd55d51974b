// The service's own scrub on a real database, over a store in memory.
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { query } from '../../../src/db/bound-query.ts';
import { entities } from '../../../src/entities.ts';
import { createLog } from '../../../src/platform/log.ts';
import { Metrics } from '../../../src/platform/metrics.ts';
import { createScrubMetrics } from '../../../src/scrub/metrics.ts';
import { type ScrubBounds, ScrubSchedule } from '../../../src/scrub/schedule.ts';
import { scrubNow } from '../../../src/scrub/scrub-store.ts';
import type { BlobStore } from '../../../src/storage/blob-store.ts';
import { memoryBlobStore } from '../../../src/storage/drivers/memory.ts';
import { openStorageOn, type Storage } from '../../../src/storage/open.ts';
import { insertDisk } from '../../support/disk-rows.ts';
import { testOrm, type TestOrm } from '../../support/test-orm.ts';
import { chunk } from '../storage/support/guest-data.ts';

const fast: Partial<ScrubBounds> = { firstMs: 0, pollMs: 20, intervalMs: 3600_000, saveMs: 0 };

interface PassRow {
  after: string;
  objects: number;
  finished: boolean;
  summary: { chunks: number; disks: number; images: number } | null;
}

describe('scrub on schedule', () => {
  let database: TestOrm;
  let objects: Map<string, Uint8Array>;
  let blobs: BlobStore;
  let storage: Storage;
  let keys: string[];
  let root: string;
  /** Keys that were read, in order. */
  let read: string[];

  const fork = () => database.orm.em.fork();
  const sql = <Row>(text: string, values: unknown[] = []) => query<Row>(fork(), text, values);

  before(async () => {
    database = await testOrm(entities);
  });
  after(() => database?.[Symbol.asyncDispose]());

  beforeEach(async () => {
    await sql('truncate scrub_passes, disks, images, snapshots');
    objects = new Map();
    read = [];
    const inner = memoryBlobStore(objects);
    blobs = {
      put: (...call) => inner.put(...call),
      get: (key, ...rest) => {
        if (read.at(-1) !== key && key.startsWith('chunks/')) read.push(key);
        return inner.get(key, ...rest);
      },
      stat: (key) => inner.stat(key),
      delete: (key) => inner.delete(key),
      list: (prefix) => inner.list(prefix),
      [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
    };
    storage = await openStorageOn(blobs);
    const builder = await storage.layers.build();
    for (const seed of [1, 2, 3, 4]) builder.set(seed, await storage.chunks.store(chunk([1], seed)));
    root = await builder.flush();
    keys = [...objects.keys()].filter((key) => key.startsWith('chunks/')).sort();
    read.length = 0;
  });

  const log = createLog({ level: 'silent' });
  const begin = (bytesPerSecond = 1e12, bounds: Partial<ScrubBounds> = fast) =>
    new ScrubSchedule({
      url: database.url,
      fork,
      storage,
      log,
      metrics: createScrubMetrics(new Metrics()),
      bytesPerSecond,
      bounds,
    });

  const pass = async (): Promise<PassRow | undefined> =>
    (
      await sql<PassRow>(
        'select after_key as after, objects::int as objects, finished_at is not null as finished, summary from scrub_passes',
      )
    )[0];

  async function eventually(condition: () => Promise<boolean>): Promise<void> {
    const deadline = Date.now() + 30_000;
    while (!(await condition())) {
      if (Date.now() > deadline) throw new Error('not within 30 s');
      await sleep(10);
    }
  }

  const flip = (key: string) => objects.set(key, Buffer.from(objects.get(key)!).fill(objects.get(key)![5000]! ^ 1, 5000, 5001));

  it('makes a pass, keeps what it found, and none again before the time has come', async () => {
    await insertDisk(fork(), 'disk', { layerRoot: root });
    flip(keys[1]!);
    {
      await using _schedule = begin();
      await eventually(async () => (await pass())?.finished === true);
      const readOnce = read.length;
      await sleep(100);
      expect(read.length).to.equal(readOnce);
    }
    const made = await pass();
    expect(made).to.include({ objects: 6, finished: true });
    expect(made!.summary).to.include({ chunks: 1, disks: 1, images: 0 });
    await sql(`update scrub_passes set started_at = started_at - interval '2 hours'`);
    read.length = 0;
    await using _again = begin();
    await eventually(async () => read.length >= keys.length);
  });

  it('goes on where it was stopped, and knows what the first part has found', async () => {
    await insertDisk(fork(), 'disk', { layerRoot: root });
    flip(keys[0]!);
    {
      // So slow that it stands after the first objects.
      await using _schedule = begin(1);
      await eventually(async () => ((await pass())?.objects ?? 0) >= 1);
    }
    const { after, objects: before, finished } = (await pass())!;
    expect(finished).to.equal(false);
    expect(keys).to.include(after);
    read.length = 0;
    await using _again = begin();
    await eventually(async () => (await pass())?.finished === true);
    expect(await pass()).to.include({ objects: 6 });
    // The damaged one is read again, because of its mark; the others behind the place alone.
    expect(read.filter((key) => key <= after && key !== keys[0])).to.deep.equal([]);
    expect(before).to.equal(keys.indexOf(after) + 1);
    expect((await pass())!.summary).to.include({ chunks: 1, disks: 1 });
  });

  it('runs in one process at a time', async () => {
    {
      await using _first = begin(1);
      await eventually(async () => ((await pass())?.objects ?? 0) >= 1);
      await using _second = begin();
      await sleep(300);
      expect((await pass())!.finished).to.equal(false);
    }
    await using _third = begin();
    await eventually(async () => (await pass())?.finished === true);
  });

  it('takes a pass by command for its own', async () => {
    const report = await scrubNow({ storage, fork, bytesPerSecond: 1e12 });
    expect(report).to.deep.equal({ objects: 6, bytes: report.bytes, roots: 0, findings: [] });
    expect(await pass()).to.include({ objects: 6, finished: true });
    read.length = 0;
    await using _schedule = begin();
    await sleep(200);
    expect(read).to.deep.equal([]);
  });

  it('names operations under way that need what is damaged, and says when nobody does', async () => {
    flip(keys[2]!);
    expect((await scrubNow({ storage, fork, bytesPerSecond: 1e12 })).findings).to.deep.equal([
      { key: keys[2], reason: 'block 0 does not match its hash', holders: [] },
    ]);
    await sql(
      `insert into operations (id, folder_id, resource_id, resource_kind, description, created_at, created_by, modified_at, metadata_type, metadata, done,
         cancellable, bytes_done, bytes_total, bytes_per_second, phase)
       values ('op', 'f', 'r', 'compute.image', 'Create image', now(), 's', now(), '', '', false, false, 0, 0, 0, 'running')`,
    );
    await sql(
      `insert into jobs (operation_id, kind, payload, pinned_roots, run_at, lease_until) values ('op', 'test', '{}', $1, now(), null)`,
      [[root]],
    );
    const [finding] = (await scrubNow({ storage, fork, bytesPerSecond: 1e12 })).findings;
    expect(finding!.holders).to.deep.equal([{ kind: 'operation', id: 'op', folderId: 'f', name: 'Create image' }]);
    await sql('truncate operations, jobs');
  });
});
