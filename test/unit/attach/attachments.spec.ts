// Attach sessions on a real PostgreSQL and a store in a folder, without NBD: what a writer's bounds do, what is left of a writer that lost
// its lease, and what is said when what was written is missing.
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { expect } from 'chai';
import { Attachments } from '../../../src/attach/attachments.ts';
import { captureTargets } from '../../../src/attach/capture-targets.ts';
import { type CaptureTargets, commitJob, commitJobKind } from '../../../src/attach/commit.job.ts';
import { DiskWriter, type WriterBounds } from '../../../src/attach/disk-writer.ts';
import { GenerationFiles } from '../../../src/attach/generation-files.ts';
import { Settlement } from '../../../src/attach/settlement.ts';
import { query } from '../../../src/db/bound-query.ts';
import { entities } from '../../../src/entities.ts';
import { Admissions } from '../../../src/gc/admission.ts';
import { bootstrap } from '../../../src/iam/bootstrap.ts';
import type { BlockDevice } from '../../../src/nbd/block-device.ts';
import { JobBell } from '../../../src/operations/job-bell.ts';
import { Operations } from '../../../src/operations/operations.ts';
import { packedEmpty } from '../../../src/operations/pack.ts';
import { Runner } from '../../../src/operations/runner.ts';
import type { Log } from '../../../src/platform/log.ts';
import { Turns } from '../../../src/platform/turns.ts';
import { parsePageAddress } from '../../../src/storage/address.ts';
import { openLayerView } from '../../../src/storage/layer-view.ts';
import { openStorage, type Storage } from '../../../src/storage/open.ts';
import { FailingSyncs } from '../../support/failing-syncs.ts';
import { eventually } from '../../support/attached-disk.ts';
import { insertDisk } from '../../support/disk-rows.ts';
import { randomFrom, testSeed } from '../../support/images.ts';
import { MemoryLog, shortBounds } from '../../support/operations-kit.ts';
import { type TestOrm, testOrm } from '../../support/test-orm.ts';

const MiB = 1024 * 1024;

describe(`attachments (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(120_000);
  const random = randomFrom(testSeed);
  const { signal } = new AbortController();
  let database: TestOrm;
  let folder: string;
  let storage: Storage;
  let subjectId: string;
  let lastDisk = 0;

  const fork = () => database.orm.em.fork();
  const sql = <Row>(text: string, values: unknown[] = []) => query<Row>(fork(), text, values);

  before(async () => {
    database = await testOrm(entities);
    folder = await mkdtemp(path.join(tmpdir(), 'obraz-attachments-'));
    storage = await openStorage({ directory: path.join(folder, 'blobs') });
    subjectId = (await fork().transactional((em) => bootstrap(em))).serviceAccountId;
  });

  after(async () => {
    await storage?.[Symbol.asyncDispose]();
    await database?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  interface Machine extends AsyncDisposable {
    attachments: Attachments;
    folder: string;
    log: MemoryLog;
    open(diskId: string): Promise<BlockDevice>;
  }

  interface MachineOptions {
    targets?: CaptureTargets;
    /** False: nothing is settled or committed but by an opening. */
    settles?: boolean;
    /** For sessions alone. */
    forkOfSessions?: () => EntityManager;
  }

  /** All that a process has of it. */
  async function machine(
    machineId: string,
    bounds: Partial<WriterBounds> = {},
    { targets = captureTargets(fork, storage), settles = true, forkOfSessions = fork }: MachineOptions = {},
  ): Promise<Machine> {
    const stack = new AsyncDisposableStack();
    const own = path.join(folder, machineId);
    const files = await GenerationFiles.open(own, 'installation');
    const memory = new MemoryLog();
    const log = memory as unknown as Log;
    const bell = new JobBell(fork);
    const operations = new Operations({ bell, fork });
    const turns = new Turns();
    let settlement: Settlement | undefined;
    const onSealed = () => settlement?.soon();
    const attachments = stack.use(
      new Attachments({
        fork: forkOfSessions,
        storage,
        files,
        machineId,
        turns,
        log,
        onSealed,
        bounds,
        renewMs: 100,
        recheckMs: 100,
      }),
    );
    const shared = { fork, files, machineId, isWriting: attachments.isWriting, log, attachments, turns };
    if (settles) settlement = stack.use(new Settlement({ ...shared, operations, bell, subjectId, intervalMs: 200 }));
    const admissions = new Admissions({ fork });
    const handler = commitJob({
      ...shared,
      storage,
      admission: (writer) => admissions.of(writer),
      targets,
      commitTurns: new Turns(),
      onCommitting: (...committing) => settlement?.committing(...committing),
    });
    const runner = stack.use(new Runner({ fork, bell, handlers: [handler], concurrency: 2, log: memory, bounds: shortBounds }));
    if (settles) runner.start();
    return {
      attachments,
      folder: path.join(own, 'generations', 'installation'),
      log: memory,
      open: (diskId) => {
        const access = { subject: { id: subjectId, type: 'serviceAccount' }, tokenId: undefined, resourceId: diskId };
        return attachments.open({ ...access, mode: 'READ_WRITE' }, 'a test', signal);
      },
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    };
  }

  const newDisk = async (size = 64 * MiB): Promise<string> => {
    const id = `epdtest${(lastDisk += 1)}`;
    await insertDisk(fork(), id, { size });
    return id;
  };

  const noise = (bytes: number): Buffer => {
    const buffer = Buffer.alloc(bytes);
    for (let at = 0; at + 4 <= bytes; at += 4) buffer.writeUInt32LE(random() * 2 ** 32, at);
    return buffer;
  };

  const machineOf = async (diskId: string) =>
    (await sql<{ machine_id: string | null }>('select machine_id from disks where id = $1', [diskId]))[0]!.machine_id;

  const committed = (diskId: string) => eventually('it is committed', async () => (await machineOf(diskId)) === null);

  const refusal = (attempt: Promise<unknown>): Promise<string> =>
    attempt.then(
      () => 'it was not refused',
      (error: Error) => error.message,
    );

  it('captures a disk as it was when it sealed, though whoever captured was killed and the disk was written since', async () => {
    const diskId = await newDisk();
    let root: string | null = null;
    const targets: CaptureTargets = {
      async measure(_target, _diskId, made) {
        root = made;
        return 0;
      },
      finish: async () => packedEmpty,
      abandon: async () => {},
    };
    const operations = new Operations({ bell: new JobBell(fork), fork });
    const { id } = await operations.beginOwn(subjectId, async () => ({
      folderId: '',
      resourceId: 'capture',
      description: 'Capture',
      metadata: packedEmpty,
      job: { kind: commitJobKind('captured'), payload: { diskId, target: { kind: 'snapshot', id: 'of the test' } } },
    }));
    // By a process that is dead; its lease has not ended.
    await sql(
      `update jobs set attempt = 1, lease_owner = 'dead', lease_until = now() + interval '1 hour' where operation_id = $1`,
      [id],
    );
    await using here = await machine('captured', {}, { targets });
    const before = noise(4096);
    const after = noise(4096);
    const device = await here.open(diskId);
    await device.write(before, 0, true, signal);
    await here.attachments.writerOf(diskId)!.seal();
    await sql(`update jobs set checkpoint = '{"through": 1}' where operation_id = $1`, [id]);
    await device.write(after, 0, true, signal);
    await device[Symbol.asyncDispose]();
    await eventually('all of it is sealed', async () => {
      const rows = await sql('select generation from disk_generations where disk_id = $1 and length_bytes is not null', [diskId]);
      return rows.length === 2;
    });
    await sql('update jobs set lease_until = now() where operation_id = $1', [id]);
    await committed(diskId);
    const contents = async (layerRoot: string): Promise<Buffer> => {
      const view = await openLayerView(storage, parsePageAddress(layerRoot), 64 * MiB);
      const bytes = Buffer.alloc(4096);
      await view.read(bytes, 0, signal);
      return bytes;
    };
    expect((await contents(root!)).equals(before), 'the capture').to.equal(true);
    const [disk] = await sql<{ layer_root: string }>('select layer_root from disks where id = $1', [diskId]);
    expect((await contents(disk!.layer_root)).equals(after), 'the disk').to.equal(true);
  });

  it('hands a disk over to whoever opens it while its writer leaves, or before it begins to', async () => {
    await using here = await machine('handing');
    const diskId = await newDisk();
    const first = await here.open(diskId);
    const content = noise(4096);
    await first.write(content, 0, false, signal);
    const opening = here.open(diskId);
    await delay(300);
    const leaving = first[Symbol.asyncDispose]();
    const second = await opening;
    await leaving;
    const read = Buffer.alloc(content.length);
    await second.read(read, 0, signal);
    expect(read.equals(content)).to.equal(true);
    const [third] = await Promise.all([here.open(diskId), second[Symbol.asyncDispose]()]);
    // One that stays is waited for as long as a goodbye may take; then the second is told of it.
    expect(await refusal(here.open(diskId))).to.match(/is attached for writing since .* one writer at a time/);
    await third[Symbol.asyncDispose]();
  });

  it('gives no generation the number of an earlier one', async () => {
    await using here = await machine('numbered');
    const diskId = await newDisk();
    for (const expected of [1, 2]) {
      await using device = await here.open(diskId);
      await device.write(noise(4096), 0, true, signal);
      const [row] = await sql<{ generation: number }>('select generation from disk_generations where disk_id = $1', [diskId]);
      expect(row!.generation).to.equal(expected);
      await device[Symbol.asyncDispose]();
      await committed(diskId);
    }
  });

  it('commits while it is written, when a log passes its bound, and lets writes wait for room', async () => {
    await using here = await machine('bounded', { openLogBytes: 2 * MiB, logBytes: 6 * MiB });
    const diskId = await newDisk();
    const content = Buffer.alloc(64 * MiB);
    let mostBytes = 0;
    {
      await using disk = await here.open(diskId);
      for (let index = 0; index < 160; index += 1) {
        const data = noise(200_000);
        const at = Math.floor(random() * (content.length - data.length));
        data.copy(content, at);
        await disk.write(data, at, index % 16 === 0, signal);
        if (index % 8 === 0) {
          const names = await readdir(here.folder);
          const sizes = await Promise.all(
            names.map((name) =>
              stat(path.join(here.folder, name)).then(
                ({ size }) => size,
                () => 0,
              ),
            ),
          );
          mostBytes = Math.max(
            mostBytes,
            sizes.reduce((sum, size) => sum + size, 0),
          );
        }
      }
      const read = Buffer.alloc(content.length);
      await disk.read(read, 0, signal);
      expect(read.equals(content)).to.equal(true);
      // 32 MB were written; what is not committed is bounded, and files go soon after they are.
      expect(mostBytes).to.be.at.most(20 * MiB);
    }
    await committed(diskId);
    await using again = await here.open(diskId);
    const read = Buffer.alloc(content.length);
    await again.read(read, 0, signal);
    expect(read.equals(content)).to.equal(true);
    await again[Symbol.asyncDispose]();
    await eventually('no file is left', async () => (await readdir(here.folder)).length === 0);
    expect(await sql('select id from attach_sessions')).to.deep.equal([]);
  });

  it('ends a session whose lease is gone, and commits what it had answered', async () => {
    await using here = await machine('fenced');
    const diskId = await newDisk();
    const disk = await here.open(diskId);
    const content = noise(100_000);
    await disk.write(content, 5000, true, signal);
    await sql('update attach_sessions set lease_until = clock_timestamp()');
    await eventually('it has ended', () => disk.ended.aborted);
    for (const attempt of [
      () => disk.write(content, 0, false, signal),
      () => disk.flush(signal),
      () => disk.trim(0, 4096, false, signal),
    ])
      expect(await attempt().catch((error: { code?: string }) => error.code)).to.equal('ESHUTDOWN');
    await disk[Symbol.asyncDispose]();
    await committed(diskId);
    await using again = await here.open(diskId);
    const read = Buffer.alloc(content.length);
    await again.read(read, 5000, signal);
    expect(read.equals(content)).to.equal(true);
  });

  for (const [what, sealing] of [
    ['a flush', (disk: BlockDevice) => disk.flush(signal)],
    ['a seal', (disk: BlockDevice) => (disk as DiskWriter).seal()],
    ['the last sync', async () => {}],
  ] as const) {
    it(`goes on from what a flush had acknowledged, and from nothing else, when ${what} fails for the disk below`, async () => {
      using syncs = new FailingSyncs();
      await using here = await machine('failing', {}, { settles: false });
      const diskId = await newDisk();
      const disk = await here.open(diskId);
      const content = noise(8192);
      await disk.write(content.subarray(0, 4096), 0, true, signal);
      const file = (await readdir(here.folder)).find((name) => name.startsWith(`${diskId}.1.`));
      const { size } = await stat(path.join(here.folder, file!));
      await disk.write(content.subarray(4096), 4096, false, signal);
      syncs.fails = true;
      const outcome = await sealing(disk).then(
        () => 'done',
        () => 'failed',
      );
      expect(outcome).to.equal(what === 'the last sync' ? 'done' : 'failed');
      expect(disk.ended.aborted).to.equal(outcome === 'failed');
      await disk[Symbol.asyncDispose]();
      expect(syncs.failures).to.be.greaterThan(0);
      syncs.fails = false;
      const rows = await sql('select state, length_bytes::int as length from disk_generations where disk_id = $1', [diskId]);
      expect(rows).to.deep.equal([{ state: 'SEALED', length: size }]);
      await using again = await here.open(diskId);
      const read = Buffer.alloc(8192);
      await again.read(read, 0, signal);
      expect(read.subarray(0, 4096).equals(content.subarray(0, 4096)), 'what was acknowledged').to.equal(true);
      expect(read.subarray(4096).equals(Buffer.alloc(4096)), 'the rest').to.equal(true);
    });
  }

  it('changes nothing by a seal that comes too late, and settles what was answered', async () => {
    await using here = await machine('late');
    const diskId = await newDisk();
    const disk = await here.open(diskId);
    expect(disk).to.be.instanceOf(DiskWriter);
    await disk.write(noise(4096), 0, true, signal);
    await sql('update attach_sessions set lease_until = clock_timestamp()');
    expect(await refusal((disk as DiskWriter).seal())).to.contain('lease');
    expect(disk.ended.aborted).to.equal(true);
    const states = await sql<{ state: string }>('select state from disk_generations where disk_id = $1', [diskId]);
    expect(states).to.deep.equal([{ state: 'OPEN' }]);
    await disk[Symbol.asyncDispose]();
    await committed(diskId);
  });

  it('leaves the disk free for every machine when nothing was written', async () => {
    await using here = await machine('here');
    await using there = await machine('there');
    const diskId = await newDisk();
    const disk = await here.open(diskId);
    expect(await refusal(there.open(diskId))).to.contain('is attached for writing since');
    expect(await machineOf(diskId)).to.equal(null);
    await disk[Symbol.asyncDispose]();
    await using other = await there.open(diskId);
    await other.write(noise(512), 0, false, signal);
    expect(await machineOf(diskId)).to.equal('there');
  });

  it('says so when what was written is missing, rather than serve the disk without it', async () => {
    const diskId = await newDisk();
    await using here = await machine('robbed', { openLogBytes: 1024 * MiB });
    // Sealed by no commit: the file goes before the machine looks.
    await sql(
      `insert into disk_generations (disk_id, generation, state, machine_id, writer_id, length_bytes, created_at)
       values ($1, 1, 'SEALED', 'robbed', 'b6b7e1a2-0000-4000-8000-000000000000', 9000, now())`,
      [diskId],
    );
    await sql(`update disks set machine_id = 'robbed' where id = $1`, [diskId]);
    expect(await refusal(here.open(diskId))).to.match(/missing|no such|not there|lost/i);
    expect(await machineOf(diskId)).to.equal('robbed');
    expect(await sql('select id from attach_sessions where resource_id = $1', [diskId])).to.deep.equal([]);
    await sql('delete from disk_generations where disk_id = $1', [diskId]);
  });
});
