// What is left of attached disks when services are killed, stopped in their tracks, or run out of space; and that a writer which was
// stopped and wakes up changes nothing.
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { AttachedDisk, eventually } from '../support/attached-disk.ts';
import { ObrazClient } from '../support/client.ts';
import { isLongRun, randomFrom, sampledIt, testSeed } from '../support/sample.ts';
import { request } from '../support/nbd-client.ts';
import { Obraz } from '../support/obraz.ts';
import { removeDataFolder, type TestDatabase, testDatabase } from '../support/postgres.ts';
import { rows } from '../support/slow-import.ts';
import { openStored } from '../support/stored-image.ts';

const MiB = 1024 * 1024;
const sectorBytes = 4096;

const sampled = sampledIt({ of: 4 });

describe(`attached disks, killed and stopped (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(240_000);
  const random = randomFrom(testSeed);
  let database: TestDatabase;
  let blobs: string;

  before(async () => {
    database = await testDatabase();
    blobs = await mkdtemp(path.join(tmpdir(), 'obraz-attach-blobs-'));
  });

  after(async () => {
    await rm(blobs, { recursive: true, force: true });
    await database?.dispose();
  });

  class Machine implements AsyncDisposable {
    readonly dataDirectory: string;
    obraz!: Obraz;
    client!: ObrazClient;
    socket!: string;
    id!: string;

    constructor(dataDirectory: string) {
      this.dataDirectory = dataDirectory;
    }

    async start(): Promise<void> {
      const environment = { DATABASE_URL: database.url, OBRAZ_BLOB_DIR: blobs };
      this.obraz = await Obraz.start({ dataDirectory: this.dataDirectory, environment });
      this.client = await ObrazClient.of(this.obraz);
      this.socket = (await this.obraz.bootstrap()).addresses.nbd_socket!;
      this.id = (await readFile(path.join(this.dataDirectory, 'machine-id'), 'utf8')).trim();
    }

    async kill(): Promise<void> {
      this.client[Symbol.dispose]();
      await this.obraz.kill();
    }

    async [Symbol.asyncDispose](): Promise<void> {
      this.client?.[Symbol.dispose]();
      this.obraz?.child.kill('SIGCONT');
      await this.obraz?.[Symbol.asyncDispose]();
      await removeDataFolder(this.dataDirectory);
    }
  }

  const newMachine = async (): Promise<Machine> => {
    const machine = new Machine(await mkdtemp(path.join(tmpdir(), 'obraz-machine-')));
    await machine.start();
    return machine;
  };

  const refusal = (attempt: Promise<unknown>): Promise<string> =>
    attempt.then(
      () => 'it was not refused',
      (error: Error) => error.message,
    );

  const sector = (value: number): Buffer => {
    const bytes = Buffer.alloc(sectorBytes);
    for (let at = 0; at < sectorBytes; at += 4) bytes.writeUInt32LE(value, at);
    return bytes;
  };

  const machineOf = async (diskId: string): Promise<string | null> =>
    (await rows<{ machine_id: string | null }>(database.url, 'select machine_id from disks where id = $1', [diskId]))[0]!
      .machine_id;

  const committed = (diskId: string) => eventually('the disk is committed', async () => (await machineOf(diskId)) === null);

  /** As if the time of a lease had passed. Only when its owner is stopped or dead. */
  /** The full set waits for them to end by themselves, 15 s. */
  const leasesEnd = async (): Promise<void> => {
    if (!isLongRun) await rows(database.url, 'update attach_sessions set lease_until = clock_timestamp()');
    await eventually('the leases have ended', async () => {
      const live = await rows(database.url, 'select 1 from attach_sessions where lease_until > clock_timestamp()');
      return live.length === 0;
    });
  };

  it('keeps all that a flush or FUA covered through kill -9, and frees the disk at the next start', async () => {
    await using machine = await newMachine();
    const disk = await machine.client.disk({ size: BigInt(8 * MiB) });
    const sectors = (8 * MiB) / sectorBytes;
    /** What each sector may hold: what was durable last, and what was written since. */
    const possible = Array.from({ length: sectors }, () => [0]);
    let value = 0;
    for (let round = 0; round < (isLongRun ? 20 : 2); round += 1) {
      const attached = await AttachedDisk.open(machine.socket, disk.id);
      for (let index = 0; index < sectors; index += 256) {
        const bytes = await attached.read(index * sectorBytes, 256 * sectorBytes);
        for (let each = 0; each < 256; each += 1) {
          const found = bytes.readUInt32LE(each * sectorBytes);
          const whole = bytes.subarray(each * sectorBytes, (each + 1) * sectorBytes).equals(sector(found));
          expect(
            whole && possible[index + each]!.includes(found),
            `sector ${index + each} holds ${found}, round ${round}`,
          ).to.equal(true);
          possible[index + each] = [found];
        }
      }
      const killAt = performance.now() + random() * 1500;
      const dead = new AbortController();
      const dying = sleep(Math.max(0, killAt - performance.now())).then(async () => {
        await machine.kill();
        dead.abort();
      });
      while (!dead.signal.aborted) {
        try {
          const index = Math.floor(random() * sectors);
          value += 1;
          possible[index]!.push(value);
          const fua = random() < 0.2;
          await attached.write(index * sectorBytes, sector(value), { fua });
          if (fua) possible[index] = [value];
          if (random() < 0.1) {
            await attached.flush();
            for (const [each, values] of possible.entries()) possible[each] = values.slice(-1);
          }
        } catch {
          break;
        }
      }
      await dying;
      attached.client[Symbol.dispose]();
      await machine.start();
    }
    await committed(disk.id);
    const last = await AttachedDisk.open(machine.socket, disk.id);
    for (let index = 0; index < sectors; index += 1) {
      const found = (await last.read(index * sectorBytes, 4)).readUInt32LE();
      expect(possible[index], `sector ${index}`).to.include(found);
    }
    await last[Symbol.asyncDispose]();
    // Nothing is left of what was committed.
    const generations = path.join(machine.dataDirectory, 'generations');
    const files = async () => (await readdir(generations, { recursive: true })).filter((name) => name.endsWith('.log'));
    await eventually('no file of a row is left', async () => {
      const left = await rows(database.url, 'select 1 from disk_generations where disk_id = $1', [disk.id]);
      return left.length === 0 && (await files()).length <= (isLongRun ? 40 : 8);
    });
  });

  sampled('moves a disk to another machine once it is committed, and says where it lies until then', async () => {
    await using here = await newMachine();
    await using there = await newMachine();
    const disk = await here.client.disk();
    const attached = await AttachedDisk.open(here.socket, disk.id);
    await attached.write(0, sector(1), { fua: true });
    expect(await refusal(AttachedDisk.open(there.socket, disk.id))).to.match(
      new RegExp(`is attached for writing since .* at machine ${here.id}`),
    );
    // Killed: the lease ends, but what was written lies there.
    attached.client[Symbol.dispose]();
    await here.kill();
    await leasesEnd();
    expect(await refusal(AttachedDisk.open(there.socket, disk.id))).to.match(
      new RegExp(`was written at machine ${here.id}, which holds data that is not committed yet`),
    );
    await here.start();
    await committed(disk.id);
    await using moved = await AttachedDisk.open(there.socket, disk.id);
    expect((await moved.read(0, sectorBytes)).equals(sector(1))).to.equal(true);
    await moved.write(0, sector(2), { fua: true });
    expect(await machineOf(disk.id)).to.equal(there.id);
  });

  sampled(
    'lets another machine have the disk of a stopped writer, and nothing of that one appears when it wakes up',
    async () => {
      await using here = await newMachine();
      await using there = await newMachine();
      const disk = await here.client.disk();
      const first = await AttachedDisk.open(here.socket, disk.id);
      await first.write(0, sector(1));
      // A snapshot commits what was written: the writer holds nothing now.
      await here.client.snapshot({ diskId: disk.id });
      await committed(disk.id);
      here.obraz.child.kill('SIGSTOP');
      // Waits in the socket of the stopped process.
      first.client.send(request('write', { offset: 0, length: sectorBytes, flags: 1, cookie: 666n }), sector(666));
      expect(await refusal(AttachedDisk.open(there.socket, disk.id))).to.contain('is attached for writing');
      await leasesEnd();
      await using second = await AttachedDisk.open(there.socket, disk.id);
      expect((await second.read(0, sectorBytes)).equals(sector(1))).to.equal(true);
      await second.write(sectorBytes, sector(2), { fua: true });
      here.obraz.child.kill('SIGCONT');
      // The first is told nothing but the end of its connection, or an error.
      const heard = await first.client.closed();
      if (heard.length > 0) expect(heard.readUInt32BE(4)).not.to.equal(0);
      first.client[Symbol.dispose]();
      expect((await second.read(0, sectorBytes)).equals(sector(1))).to.equal(true);
      await second[Symbol.asyncDispose]();
      await committed(disk.id);
      await using stored = await openStored(database.url, blobs, 'disks', disk.id);
      const bytes = Buffer.alloc(2 * sectorBytes);
      await stored.read(bytes, 0);
      expect(bytes.equals(Buffer.concat([sector(1), sector(2)]))).to.equal(true);
    },
  );

  sampled(
    'answers ENOSPC when the disk of the machine is full, loses nothing, and goes on when there is room',
    async function () {
      const mounted = await mkdtemp(path.join(tmpdir(), 'obraz-full-'));
      await mkdir(mounted, { recursive: true });
      const dataDirectory = path.join(mounted, 'data');
      const machine = new Machine(dataDirectory);
      if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', mounted]).status !== 0) {
        console.warn('SKIPPED: a small file system cannot be mounted here (it takes root)');
        await rm(mounted, { recursive: true });
        return this.skip();
      }
      try {
        await machine.start();
        const disk = await machine.client.disk();
        const attached = await AttachedDisk.open(machine.socket, disk.id);
        let good = 0;
        const failure = await (async () => {
          for (; good < 64; good += 1) await attached.write(good * MiB, Buffer.alloc(MiB, good + 1));
        })().catch((error: Error) => error.message);
        expect(failure).to.equal('errno 28');
        await attached.flush();
        for (let index = 0; index < good; index += 1)
          expect((await attached.read(index * MiB, MiB)).equals(Buffer.alloc(MiB, index + 1)), `MiB ${index}`).to.equal(true);
        // Committed by a snapshot, the log goes: there is room again.
        await machine.client.snapshot({ diskId: disk.id });
        await attached.write(good * MiB, Buffer.alloc(MiB, good + 1), { fua: true });
        await attached[Symbol.asyncDispose]();
        await committed(disk.id);
        await using stored = await openStored(database.url, blobs, 'disks', disk.id);
        for (let index = 0; index <= good; index += 1) {
          const bytes = Buffer.alloc(MiB);
          await stored.read(bytes, index * MiB);
          expect(bytes.equals(Buffer.alloc(MiB, index + 1)), `MiB ${index}`).to.equal(true);
        }
      } finally {
        await machine[Symbol.asyncDispose]();
        spawnSync('umount', [mounted]);
        await rm(mounted, { recursive: true, force: true });
      }
    },
  );
});
