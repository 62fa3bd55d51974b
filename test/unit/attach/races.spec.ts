// What happens between two steps of a writer, a settlement or a commit, made to happen there.
import { readdir, truncate, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { type CaptureTargets, commitJobKind } from '../../../src/attach/commit.job.ts';
import { generationsOf, replaceWithBase } from '../../../src/attach/generation-queries.ts';
import { JobBell } from '../../../src/operations/job-bell.ts';
import { Operations } from '../../../src/operations/operations.ts';
import { packedEmpty } from '../../../src/operations/pack.ts';
import { Turns } from '../../../src/platform/turns.ts';
import { fold } from '../../../src/storage/overlay/fold.ts';
import { openSealedGeneration } from '../../../src/storage/overlay/generation.ts';
import { OpenLog } from '../../../src/storage/overlay/open-log.ts';
import { AttachKit } from '../../support/attach-kit.ts';
import { eventually } from '../../support/attached-disk.ts';
import { type ForkHooks, hookedFork } from '../../support/hooked-fork.ts';

const MiB = 1024 * 1024;

describe('A written disk', function () {
  this.timeout(120_000);
  let kit: AttachKit;
  let { fork, sql, machine, newDisk, noise, machineOf, committed, signal }: AttachKit = {} as AttachKit;

  before(async () => {
    kit = await AttachKit.start();
    ({ fork, sql, machine, newDisk, noise, machineOf, committed, signal } = kit);
  });
  after(() => kit?.[Symbol.asyncDispose]());

  const rowsOf = (diskId: string) =>
    sql<{ generation: number; state: string }>('select generation, state from disk_generations where disk_id = $1', [diskId]);

  it('is opened as it is, though what was written is committed in the middle of the opening', async () => {
    const diskId = await newDisk();
    const content = noise(8192);
    const hooks: ForkHooks = {};
    const turns = new Turns();
    await using here = await machine('moment', { settles: false, forkOfSessions: hookedFork(fork, hooks), turns });
    {
      await using disk = await here.open(diskId);
      await disk.write(content, 0, false, signal);
    }
    // The same process: what it opens and what it commits share the disk's turns.
    await using committing = await machine('moment', { settles: false, turns });
    hooks.after = async () => {
      delete hooks.after;
      committing.settle();
      await committed(diskId);
    };
    await using disk = await here.open(diskId);
    expect(hooks.after).to.equal(undefined);
    const read = Buffer.alloc(8192);
    await disk.read(read, 0, signal);
    expect(read.equals(content)).to.equal(true);
  });

  it('is left to every machine when its writer began a generation, was not told so, and wrote nothing', async () => {
    const diskId = await newDisk();
    const hooks: ForkHooks = {};
    await using here = await machine('untold', { settles: false, forkOfSessions: hookedFork(fork, hooks) });
    const disk = await here.open(diskId);
    hooks.after = async () => {
      delete hooks.after;
      throw new Error('the answer was lost');
    };
    const error: unknown = await disk.write(noise(4096), 0, false, signal).catch((reason: unknown) => reason);
    expect(error).to.have.property('message', 'the answer was lost');
    expect(await rowsOf(diskId)).to.deep.equal([{ generation: 1, state: 'OPEN' }]);
    expect(await machineOf(diskId)).to.equal('untold');
    await disk[Symbol.asyncDispose]();
    expect(await rowsOf(diskId)).to.deep.equal([]);
    expect(await machineOf(diskId)).to.equal(null);
  });

  it('takes the next write when the answer to a begin was lost and comes the second time', async () => {
    const diskId = await newDisk();
    const hooks: ForkHooks = {};
    await using here = await machine('retold', { settles: false, forkOfSessions: hookedFork(fork, hooks) });
    await using disk = await here.open(diskId);
    hooks.after = async () => {
      delete hooks.after;
      throw Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', syscall: 'read' });
    };
    await disk.write(noise(4096), 0, true, signal);
    expect(hooks.after).to.equal(undefined);
    expect(await rowsOf(diskId)).to.deep.equal([{ generation: 1, state: 'OPEN' }]);
  });

  it('is sealed when a seal has ended that its leaving writer overtook', async () => {
    const diskId = await newDisk();
    const hooks: ForkHooks = {};
    await using here = await machine('overtaken', { settles: false, forkOfSessions: hookedFork(fork, hooks) });
    const disk = await here.open(diskId);
    await disk.write(noise(4096), 0, false, signal);
    const generations = here.attachments.writerOf(diskId)!;
    // Everything after it waits for its turn: the seal, and behind it the leaving.
    const asked = Promise.withResolvers<void>();
    hooks.answered = () => asked.promise;
    const refreshing = generations.refresh();
    let isSealed = false;
    const sealing = generations.seal().then(() => (isSealed = true));
    const left = Promise.withResolvers<void>();
    const leaves = Promise.withResolvers<void>();
    hooks.before = () => {
      leaves.resolve();
      return left.promise;
    };
    const leaving = disk[Symbol.asyncDispose]();
    asked.resolve();
    await refreshing;
    await leaves.promise;
    expect(isSealed).to.equal(false);
    left.resolve();
    await sealing;
    expect(await rowsOf(diskId)).to.deep.equal([{ generation: 1, state: 'SEALED' }]);
    await leaving;
    // And one that comes after all of it has nothing left to do.
    await generations.seal();
  });

  it('is opened when a writer without a lease has left it, whoever asks before', async () => {
    const diskId = await newDisk();
    const content = noise(4096);
    const hooks: ForkHooks = {};
    await using here = await machine('lingering', { settles: false, forkOfSessions: hookedFork(fork, hooks) });
    const disk = await here.open(diskId);
    await disk.write(content, 0, false, signal);
    await sql('update attach_sessions set lease_until = clock_timestamp() where resource_id = $1', [diskId]);
    const left = Promise.withResolvers<void>();
    hooks.before = () => {
      delete hooks.before;
      return left.promise;
    };
    const leaving = disk[Symbol.asyncDispose]();
    await eventually('it leaves', () => hooks.before === undefined);
    const looked = Promise.withResolvers<void>();
    hooks.before = async () => looked.resolve();
    const opening = here.open(diskId);
    await looked.promise;
    left.resolve();
    await leaving;
    await using next = await opening;
    const read = Buffer.alloc(4096);
    await next.read(read, 0, signal);
    expect(read.equals(content)).to.equal(true);
  });

  it('keeps a log that got its row, and was sealed, while files without rows were looked for', async () => {
    const diskId = await newDisk();
    const content = noise(4096);
    const hooks: ForkHooks = {};
    await using here = await machine('swept', { settles: false, forkOfSettlement: hookedFork(fork, hooks) });
    await using disk = await here.open(diskId);
    const logs = async (): Promise<string[]> => (await readdir(here.folder)).filter((name) => name.startsWith(`${diskId}.1.`));
    const [file] = await logs();
    const longAgo = new Date(Date.now() - 3_600_000);
    await utimes(path.join(here.folder, file!), longAgo, longAgo);
    let looks = 0;
    let left: string[] | undefined;
    hooks.answered = async (statement) => {
      if (!statement.includes('from disk_generations where machine_id')) return;
      looks += 1;
      // The first look is for what is to be settled, the second for garbage, the third for what is to be settled: nothing is committed before.
      if (looks === 2) {
        await disk.write(content, 0, false, signal);
        await here.attachments.writerOf(diskId)!.seal();
      } else if (looks === 3) {
        // What is removed is removed beside the looks.
        await delay(200);
        left = await logs();
      }
    };
    here.settle();
    await eventually('it has swept', () => left !== undefined);
    expect(left).to.deep.equal([file]);
    await committed(diskId);
    const read = Buffer.alloc(4096);
    await disk.read(read, 0, signal);
    expect(read.equals(content)).to.equal(true);
    expect(here.log.lines.filter(({ level }) => level === 'error')).to.deep.equal([]);
  });

  it('is settled though others take long to settle, or cannot be', async () => {
    const turns = new Turns();
    const disks: string[] = [];
    {
      await using here = await machine('crashed', { settles: false });
      for (let count = 0; count < 4; count += 1) {
        const diskId = await newDisk();
        disks.push(diskId);
        const disk = await here.open(diskId);
        await disk.write(noise(4096), 0, true, signal);
        await sql('update attach_sessions set lease_until = clock_timestamp() where resource_id = $1', [diskId]);
        await disk[Symbol.asyncDispose]();
        expect(await rowsOf(diskId)).to.deep.equal([{ generation: 1, state: 'OPEN' }]);
      }
    }
    const [slow, damaged, ...others] = disks as [string, string, ...string[]];
    await using here = await machine('crashed', { settles: false, turns });
    const [row] = await generationsOf(fork(), damaged);
    await truncate(here.files.of(row!), 100);
    {
      using _long = await turns.take(slow);
      // Garbage of it waits for it, too.
      const unnamed = path.join(here.folder, `${slow}.7.b6b7e1a2-0000-4000-8000-000000000000.log`);
      await writeFile(unnamed, '');
      await utimes(unnamed, 0, 0);
      here.settle();
      for (const diskId of others) await committed(diskId);
      expect(await rowsOf(slow)).to.deep.equal([{ generation: 1, state: 'OPEN' }]);
      const later = await newDisk();
      await using disk = await here.open(later);
      await disk.write(noise(4096), 0, true, signal);
      await here.attachments.writerOf(later)!.seal();
      await committed(later);
    }
    await committed(slow);
    await sql('delete from disk_generations where disk_id = $1', [damaged]);
  });

  it('is not tried to be committed again at once when that fails, though every look finds it', async () => {
    const diskId = await newDisk();
    const hooks: ForkHooks = {};
    await using here = await machine('damaged', { settles: false, forkOfSettlement: hookedFork(fork, hooks) });
    {
      await using disk = await here.open(diskId);
      await disk.write(noise(4096), 0, false, signal);
    }
    const file = (await readdir(here.folder)).find((name) => name.startsWith(`${diskId}.1.`))!;
    await truncate(path.join(here.folder, file), 4096);
    let looks = 0;
    hooks.answered = async (statement) => {
      if (statement.includes('from disk_generations where machine_id')) looks += 1;
    };
    here.settle();
    const commits = () =>
      sql<{ done: boolean }>('select done from operations where resource_id = $1', [`commit/${diskId}`]).then((rows) =>
        rows.map(({ done }) => done),
      );
    await eventually('a commit has failed', async () => (await commits()).includes(true));
    const before = looks;
    await eventually('it was looked for several times', () => looks >= before + 8);
    // The second one comes after ten seconds, which these looks may have taken on a busy machine; there would be eight.
    expect((await commits()).length).to.be.at.most(2);
  });

  for (const isLost of [false, true])
    it(
      isLost
        ? 'has no capture when its log is gone and nothing has committed it'
        : 'is captured all the same when a commit whose turn was over took the log away between plan and fold',
      async () => {
        const diskId = await newDisk();
        const machineId = isLost ? 'bereft' : 'overtaking';
        const finished: unknown[] = [];
        let abandoned = 0;
        const targets: CaptureTargets = {
          measure: async () => 0,
          async finish(_em, _target, { root }) {
            finished.push(root);
            return packedEmpty;
          },
          async abandon() {
            abandoned += 1;
          },
        };
        const hooks: ForkHooks = {};
        await using here = await machine(machineId, { settles: false, targets, forkOfCommits: hookedFork(fork, hooks) });
        {
          await using disk = await here.open(diskId);
          await disk.write(noise(4096), 0, false, signal);
        }
        const [row] = await generationsOf(fork(), diskId);
        const overtake = async (): Promise<string> => {
          const { storage } = kit;
          await using generation = await openSealedGeneration(here.files.of(row!), row!, row!.lengthBytes!);
          const folded = await fold({ storage, base: undefined, generations: [generation], sizeBytes: 64 * MiB, signal });
          await fork().transactional((em) =>
            replaceWithBase(em, { diskId, base: null, generations: [row!.generation], root: folded.root }),
          );
          return folded.root;
        };
        let isPlanned = false;
        let root: string | undefined;
        hooks.answered = async (statement) => {
          if (statement.includes('layer_root as base, size')) isPlanned = true;
          else if (isPlanned && statement.includes('from disk_generations where disk_id')) {
            delete hooks.answered;
            if (!isLost) root = await overtake();
            await here.files.remove([row!]);
          }
        };
        const operations = new Operations({ bell: new JobBell(fork), fork });
        await operations.beginOwn(kit.subjectId, async () => ({
          folderId: '',
          resourceId: 'capture',
          resourceKind: 'compute.snapshot',
          description: 'Capture',
          metadata: packedEmpty,
          job: { kind: commitJobKind(machineId), payload: { diskId, target: { kind: 'snapshot', id: 'of the test' } } },
        }));
        here.settle();
        await eventually('it has ended', () => finished.length + abandoned > 0);
        expect({ finished, abandoned }).to.deep.equal(
          isLost ? { finished: [], abandoned: 1 } : { finished: [root], abandoned: 0 },
        );
        await sql('delete from disk_generations where disk_id = $1', [diskId]);
      },
    );

  it('is freed though its files could not be closed', async () => {
    const diskId = await newDisk();
    await using here = await machine('unclosed', { settles: false });
    const disk = await here.open(diskId);
    await disk.write(noise(4096), 0, false, signal);
    const dispose = OpenLog.prototype[Symbol.asyncDispose];
    OpenLog.prototype[Symbol.asyncDispose] = async function (this: OpenLog) {
      await dispose.call(this);
      throw new Error('EIO: close');
    };
    try {
      await disk[Symbol.asyncDispose]();
    } finally {
      OpenLog.prototype[Symbol.asyncDispose] = dispose;
    }
    expect(here.attachments.count).to.equal(0);
    expect(here.log.lines.map(({ message }) => message)).to.include('the files of an overlay could not be closed');
    await using _again = await here.open(diskId);
  });

  it('holds up nothing else when its writer cannot take up what was committed', async () => {
    const diskId = await newDisk();
    await using here = await machine('unread', { settles: false });
    await using disk = await here.open(diskId);
    await disk.write(noise(4096), 0, false, signal);
    const generations = here.attachments.writerOf(diskId)!;
    await generations.seal();
    generations.refresh = () => Promise.reject(new Error('the base cannot be read'));
    const garbage = path.join(here.folder, 'epdother.3.b6b7e1a2-0000-4000-8000-000000000000.log');
    await writeFile(garbage, '');
    const longAgo = new Date(Date.now() - 3_600_000);
    await utimes(garbage, longAgo, longAgo);
    here.settle();
    await eventually('the garbage is gone', async () => !(await readdir(here.folder)).includes(path.basename(garbage)));
  });

  it('is not read by a writer whose lease has ended, before anything has told it so', async () => {
    const diskId = await newDisk();
    await using here = await machine('stopped', { settles: false });
    await using disk = await here.open(diskId);
    await disk.write(noise(4096), 0, false, signal);
    const target = Buffer.alloc(4096);
    expect(disk.readNow!(target, 0)).to.equal(true);
    // As in a process that was stopped for a minute and has run no timer yet.
    here.attachments.writerOf(diskId)!.lease.renewed(performance.now() - 60_000);
    expect(disk.ended.aborted).to.equal(false);
    expect(disk.readNow!(target, 0)).to.equal(false);
    expect(await disk.read(target, 0, signal).catch((error: { code?: string }) => error.code)).to.equal('ESHUTDOWN');
  });
});
