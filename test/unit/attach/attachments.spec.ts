// Attach sessions on a real PostgreSQL and a store in a folder, without NBD: what a writer's bounds do, what is left of a writer that lost
// its lease, and what is said when what was written is missing.
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { type CaptureTargets, commitJobKind } from '../../../src/attach/commit.job.ts';
import type { WriterGenerations } from '../../../src/attach/writer-generations.ts';
import type { BlockDevice } from '../../../src/nbd/block-device.ts';
import { JobBell } from '../../../src/operations/job-bell.ts';
import { Operations } from '../../../src/operations/operations.ts';
import { packedEmpty } from '../../../src/operations/pack.ts';
import { parsePageAddress } from '../../../src/storage/address.ts';
import { openLayerView } from '../../../src/storage/layer-view.ts';
import { Metrics } from '../../../src/platform/metrics.ts';
import { RateLimits } from '../../../src/transport/rate-limits.ts';
import { AttachKit, refusal } from '../../support/attach-kit.ts';
import { eventually } from '../../support/attached-disk.ts';
import { FailingSyncs } from '../../support/failing-syncs.ts';
import { randomFrom, testSeed } from '../../support/sample.ts';
import { expectRefusal } from '../../support/call.ts';

const MiB = 1024 * 1024;

describe(`attachments (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(120_000);
  const random = randomFrom(testSeed);
  let kit: AttachKit;
  let { fork, sql, machine, newDisk, noise, machineOf, committed, signal }: AttachKit = {} as AttachKit;

  before(async () => {
    kit = await AttachKit.start();
    ({ fork, sql, machine, newDisk, noise, machineOf, committed, signal } = kit);
  });

  after(() => kit?.[Symbol.asyncDispose]());

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
    const { id } = await operations.beginOwn(kit.subjectId, async () => ({
      folderId: '',
      resourceId: 'capture',
      resourceKind: 'compute.snapshot',
      description: 'Capture',
      metadata: packedEmpty,
      job: { kind: commitJobKind('captured'), payload: { diskId, target: { kind: 'snapshot', id: 'of the test' } } },
    }));
    // By a process that is dead; its lease has not ended.
    await sql(
      `update jobs set attempt = 1, lease_owner = 'dead', lease_until = now() + interval '1 hour' where operation_id = $1`,
      [id],
    );
    await using here = await machine('captured', { targets });
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
      const view = await openLayerView(kit.storage, parsePageAddress(layerRoot), 64 * MiB);
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
    await using here = await machine('bounded', { bounds: { openLogBytes: 2 * MiB, logBytes: 6 * MiB } });
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

  it('answers ENOSPC when nothing is committed, reads on, and loses nothing that it had answered', async () => {
    const diskId = await newDisk();
    const content = noise(4 * MiB);
    let written = 0;
    {
      const bounds = { openLogBytes: 1 * MiB, logBytes: 2 * MiB, stalledMs: 100 };
      await using here = await machine('stalled', { settles: false, bounds });
      await using disk = await here.open(diskId);
      const write = () => disk.write(content.subarray(written, written + 65536), written, false, signal);
      let error: unknown;
      while (error === undefined && written < content.length) {
        error = await write().catch((reason: unknown) => reason);
        if (error === undefined) written += 65536;
      }
      expect(error).to.have.property('code', 'ENOSPC');
      const waiting = write().catch((reason: unknown) => reason);
      const read = Buffer.alloc(written);
      await disk.read(read, 0, signal);
      expect(read.equals(content.subarray(0, written))).to.equal(true);
      await disk.flush(signal);
      expect(await waiting).to.have.property('code', 'ENOSPC');
      expect(disk.ended.aborted).to.equal(false);
      // When commits get on again, so do writes.
      here.settle();
      await eventually('it takes writes again', () =>
        write().then(
          () => true,
          () => false,
        ),
      );
    }
    await using there = await machine('stalled');
    await using again = await there.open(diskId);
    const read = Buffer.alloc(written + 65536);
    await again.read(read, 0, signal);
    expect(read.equals(content.subarray(0, written + 65536))).to.equal(true);
  });

  it('bounds the memory of all indexes together: idle disks are committed for busy ones, and all get on', async () => {
    // Whoever has written anything has an index of more than 128 KiB.
    await using here = await machine('together', { indexBudget: { maxBytes: 300 * 1024, smallBytes: 0 } });
    const { indexBudget } = here.attachments;
    await using open = new AsyncDisposableStack();
    const disks: BlockDevice[] = [];
    for (let count = 0; count < 4; count += 1) disks.push(open.use(await here.open(await newDisk(8 * MiB))));
    for (const [index, disk] of disks.entries()) await disk.write(Buffer.alloc(4096, index + 1), 0, false, signal);
    await eventually('memory came back', () => indexBudget.usedBytes <= 300 * 1024);
    let mostBytes = 0;
    await Promise.all(
      disks.map(async (disk, index) => {
        for (let sector = 1; sector < 6; sector += 1) {
          await disk.write(Buffer.alloc(4096, index + 1), sector * 4096, sector % 2 === 0, signal);
          mostBytes = Math.max(mostBytes, indexBudget.usedBytes);
        }
      }),
    );
    // Each may be let in with nothing before it, beside what is being committed, which the commit has an index of, too.
    expect(mostBytes).to.be.at.most(300 * 1024 + disks.length * 2 * 140 * 1024);
    for (const [index, disk] of disks.entries()) {
      const read = Buffer.alloc(6 * 4096);
      await disk.read(read, 0, signal);
      expect(read.equals(Buffer.alloc(6 * 4096, index + 1))).to.equal(true);
    }
    await open.disposeAsync();
    await eventually('all of it came back', () => indexBudget.usedBytes === 0);
  });

  it('counts the indexes that a commit has of its own while it runs', async () => {
    const diskId = await newDisk();
    await using here = await machine('counted', { settles: false });
    {
      await using disk = await here.open(diskId);
      await disk.write(noise(4096), 0, false, signal);
    }
    const { indexBudget } = here.attachments;
    expect(indexBudget.usedBytes).to.equal(0);
    let mostBytes = 0;
    const note = indexBudget.note.bind(indexBudget);
    indexBudget.note = (owner) => {
      note(owner);
      mostBytes = Math.max(mostBytes, indexBudget.usedBytes);
    };
    here.settle();
    await committed(diskId);
    expect(mostBytes).to.be.greaterThan(128 * 1024);
    await eventually('it is given back', () => indexBudget.usedBytes === 0);
  });

  it('lets writes wait, and opens no disk that has to be committed, while the memory of indexes is used up', async () => {
    const diskId = await newDisk();
    {
      await using before = await machine('spent', { settles: false });
      await using disk = await before.open(diskId);
      await disk.write(noise(4096), 0, false, signal);
    }
    await using here = await machine('spent', {
      settles: false,
      indexBudget: { maxBytes: 1000, smallBytes: 0 },
      bounds: { stalledMs: 100 },
    });
    await using other = await here.open(await newDisk());
    await using third = await here.open(await newDisk());
    const write = () => other.write(noise(4096), 0, false, signal);
    await write();
    expect(await write().catch((error: { code?: string }) => error.code)).to.equal('ENOSPC');
    await other.read(Buffer.alloc(4096), 0, signal);
    // Who has written nothing waits for nobody.
    await third.write(noise(4096), 0, false, signal);
    expect(await refusal(here.open(diskId))).to.contain('is being committed');
    here.settle();
    await committed(diskId);
    await eventually('writes are taken again', () =>
      write().then(
        () => true,
        () => false,
      ),
    );
    await eventually('memory came back', () => here.attachments.indexBudget.usedBytes === 0);
    await using _opened = await here.open(diskId);
  });

  it('leaves room to others, however much one subject opens', async () => {
    await using here = await machine('crowded', { maxSessionsPerSubject: 2 });
    const open = async (subjectId = kit.subjectId) => {
      const subject = { id: subjectId, type: 'serviceAccount' };
      const access = { subject, tokenId: undefined, resourceId: await newDisk(), mode: 'READ_WRITE' } as const;
      return here.attachments.open(access, 'a test', signal);
    };
    await using _first = await open();
    const second = await open();
    await expectRefusal(open(), 'RESOURCE_EXHAUSTED', /has 2 exports open/);
    await second[Symbol.asyncDispose]();
    await using _third = await open();
  });

  it('counts what is opened for writing as a change of its subject, and asks before anything is done', async () => {
    const rates = { subjectCallsPerSecond: 0, addressCallsPerSecond: 0, failedAuthenticationsPerMinute: 0 };
    const limits = new RateLimits({ ...rates, subjectChangesPerSecond: 0.05 }, new Metrics(), () => 1e6);
    await using here = await machine('often', { admitChange: (id) => limits.admitChange(id, '') });
    const resourceId = await newDisk();
    const open = async (mode: 'READ_WRITE' | 'READ_ONLY'): Promise<void> => {
      const subject = { id: kit.subjectId, type: 'serviceAccount' };
      await using _device = await here.attachments.open({ subject, tokenId: undefined, resourceId, mode }, 'a test', signal);
    };
    for (let time = 0; time < 3; time += 1) await open('READ_WRITE');
    await expectRefusal(open('READ_WRITE'), 'RESOURCE_EXHAUSTED', /^Too many changes of/);
    await open('READ_ONLY');
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
    ['a flush', (disk) => disk.flush(signal)],
    ['a seal', (_disk, generations) => generations.seal()],
    ['the last sync', async () => {}],
  ] as [string, (disk: BlockDevice, generations: WriterGenerations) => Promise<void>][]) {
    it(`goes on from what a flush had acknowledged, and from nothing else, when ${what} fails for the disk below`, async () => {
      using syncs = new FailingSyncs();
      await using here = await machine('failing', { settles: false });
      const diskId = await newDisk();
      const disk = await here.open(diskId);
      const content = noise(8192);
      await disk.write(content.subarray(0, 4096), 0, true, signal);
      const file = (await readdir(here.folder)).find((name) => name.startsWith(`${diskId}.1.`));
      const { size } = await stat(path.join(here.folder, file!));
      await disk.write(content.subarray(4096), 4096, false, signal);
      syncs.fails = true;
      const outcome = await sealing(disk, here.attachments.writerOf(diskId)!).then(
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
    await disk.write(noise(4096), 0, true, signal);
    await sql('update attach_sessions set lease_until = clock_timestamp()');
    expect(await refusal(here.attachments.writerOf(diskId)!.seal())).to.contain('lease');
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
    await using here = await machine('robbed');
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
