// Disks, images and snapshots through the real service's NBD port and socket, by real clients and by one that knows exactly what was
// answered: who may open what, what is there while others write, and where it all lies afterwards.
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { Metadata, status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { UpdateDiskRequest } from '../../generated/yandex/cloud/compute/v1/disk_service.ts';
import { Image } from '../../generated/yandex/cloud/compute/v1/image.ts';
import { Snapshot } from '../../generated/yandex/cloud/compute/v1/snapshot.ts';
import { IamTokenServiceClient } from '../../generated/yandex/cloud/iam/v1/iam_token_service.ts';
import { AttachedDisk, eventually } from '../support/attached-disk.ts';
import { ObrazClient, unary } from '../support/client.ts';
import { firstDifference, qemuImg, qemuIo, requireQemuImg } from '../support/images.ts';
import { randomFrom, testSeed } from '../support/sample.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { Obraz } from '../support/obraz.ts';
import { removeDataFolder, type TestDatabase, testDatabase } from '../support/postgres.ts';
import { rows } from '../support/slow-import.ts';
import { blobDirectoryOf, openStored } from '../support/stored-image.ts';

const MiB = 1024 * 1024;
const run = promisify(execFile);

describe(`attached disks (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(180_000);
  const random = randomFrom(testSeed);
  let database: TestDatabase;
  let dataDirectory: string;
  let scratch: string;
  let obraz: Obraz;
  let client: ObrazClient;
  let socket: string;
  let port: string;

  const start = async (): Promise<void> => {
    obraz = await Obraz.start({ dataDirectory, environment: { DATABASE_URL: database.url } });
    client = await ObrazClient.of(obraz);
    const { addresses } = await obraz.bootstrap();
    socket = addresses.nbd_socket!;
    port = addresses.nbd!;
  };

  before(async function () {
    requireQemuImg(this);
    database = await testDatabase();
    dataDirectory = await mkdtemp(path.join(tmpdir(), 'obraz-attach-'));
    scratch = await mkdtemp(path.join(tmpdir(), 'obraz-attach-'));
    await start();
  });

  after(async () => {
    client?.[Symbol.dispose]();
    await obraz?.[Symbol.asyncDispose]();
    await removeDataFolder(dataDirectory);
    await rm(scratch, { recursive: true, force: true });
    await database?.dispose();
  });

  const command = async (...args: string[]): Promise<string> => {
    const environment = { ...process.env, OBRAZ_DATA_DIR: dataDirectory, DATABASE_URL: database.url };
    const { stdout } = await run(process.execPath, ['src/main.ts', ...args], { env: environment, timeout: 60_000 });
    return stdout.trim();
  };

  const noise = (bytes: number): Buffer => {
    const buffer = Buffer.alloc(bytes);
    for (let at = 0; at + 4 <= bytes; at += 4) buffer.writeUInt32LE(random() * 2 ** 32, at);
    return buffer;
  };

  const machineOf = async (diskId: string): Promise<string | null> =>
    (await rows<{ machine_id: string | null }>(database.url, 'select machine_id from disks where id = $1', [diskId]))[0]!
      .machine_id;

  const committed = (diskId: string) => eventually('the disk is committed', async () => (await machineOf(diskId)) === null);

  const expectBytes = async (table: 'disks' | 'images' | 'snapshots', id: string, offset: number, bytes: Buffer) => {
    await using source = await openStored(database.url, blobDirectoryOf(dataDirectory), table, id);
    const read = Buffer.alloc(bytes.length);
    await source.read(read, offset);
    expect(read.equals(bytes), `${table} ${id} at ${offset}`).to.equal(true);
  };

  const refusal = (attempt: Promise<unknown>): Promise<string> =>
    attempt.then(
      () => 'it was not refused',
      (error: Error) => error.message,
    );

  const code = (attempt: Promise<unknown>): Promise<number | undefined> =>
    attempt.then(
      () => undefined,
      (error: { code?: number }) => error.code,
    );

  it('takes what qemu-io writes and holds it in the disk’s layer after it has gone', async () => {
    const disk = await client.disk({ size: BigInt(40 * MiB) });
    const uri = await command('nbd', 'attach', disk.id);
    expect(uri).to.match(/^nbd\+unix:\/\/\/nbd1\.[\w.-]+\?socket=\/\S+nbd\.sock$/);
    const raw = path.join(scratch, 'written.raw');
    await qemuImg('create', '-f', 'raw', raw, `${40 * MiB}`);
    const writes = [
      'write -P 7 0 64k',
      'write -P 9 12345 100000',
      'write -P 3 20M 5M',
      'write -z 21M 64k',
      'discard 22M 1M',
      'flush',
    ];
    await qemuIo(raw, 'raw', writes);
    await qemuIo(uri, 'raw', writes, '-d', 'unmap');
    await committed(disk.id);
    await using stored = await openStored(database.url, blobDirectoryOf(dataDirectory), 'disks', disk.id);
    expect(await firstDifference(stored, raw)).to.equal(undefined);
    expect(await qemuImg('compare', '-f', 'raw', '-F', 'raw', raw, uri)).to.match(/identical/);
    // Commits are nobody's call: they are not among the disk's operations.
    const listed = await unary(
      client.disks,
      client.disks.listOperations,
      { diskId: disk.id, pageSize: 0n, pageToken: '' },
      client.metadata,
    );
    expect(listed.operations.map(({ description }) => description)).to.deep.equal(['Create disk']);
    expect(await rows(database.url, 'select generation from disk_generations where disk_id = $1', [disk.id])).to.deep.equal([]);
    const { addresses } = await obraz.bootstrap();
    const metrics = await (await fetch(`http://${addresses.http}/metrics`)).text();
    expect(metrics).to.match(/^obraz_nbd_written_bytes_total [1-9]\d{6,}$/m);
    expect(metrics).to.match(/^obraz_nbd_requests_total\{command="flush"\} [1-9]/m);
    expect(metrics).to.match(/^obraz_attach_index_bytes \d/m);
  });

  it('lets one writer in, tells the second who that is, and neither deletes nor grows what is attached', async () => {
    const disk = await client.disk();
    {
      await using first = await AttachedDisk.open(socket, disk.id);
      const message = await refusal(AttachedDisk.open(port, (await client.createTicket(disk.id)).ticket));
      expect(message).to.match(
        /GO was refused: Disk \w+ is attached for writing since 20\S+ by \/\S+nbd\.sock .*one writer at a time/,
      );
      expect(await code(client.deleteDisk(disk.id))).to.equal(status.FAILED_PRECONDITION);
      const grow = UpdateDiskRequest.fromPartial({ diskId: disk.id, updateMask: ['size'], size: BigInt(128 * MiB) });
      expect(await code(unary(client.disks, client.disks.update, grow, client.metadata))).to.equal(status.FAILED_PRECONDITION);
      expect(await refusal(AttachedDisk.open(socket, `${disk.id}/ro`))).to.contain('is attached for writing');
      const sessions = (await command('nbd', 'list', '--resource', disk.id)).split('\t');
      expect(sessions.slice(0, 2)).to.deep.equal([disk.id, 'rw']);
      await first.write(0, noise(4096));
    }
    await using again = await AttachedDisk.open(socket, disk.id);
    expect(await again.read(4096, 16)).to.deep.equal(Buffer.alloc(16));
  });

  it('overlays what was written before and is not committed yet, attach after attach', async () => {
    const disk = await client.disk();
    const content = Buffer.alloc(2 * MiB);
    for (let round = 0; round < 4; round += 1) {
      await using attached = await AttachedDisk.open(socket, disk.id);
      expect((await attached.read(0, content.length)).equals(content)).to.equal(true);
      const at = Math.floor(random() * (content.length - 10_000));
      const data = noise(9_999);
      data.copy(content, at);
      await attached.write(at, data, { fua: round % 2 === 0 });
    }
    await committed(disk.id);
    await expectBytes('disks', disk.id, 0, content);
  });

  it('takes a snapshot and an image of one moment while the disk is being written', async () => {
    const disk = await client.disk();
    await using attached = await AttachedDisk.open(socket, disk.id);
    // Numbers in order, one write after another: any moment is a prefix of them.
    let written = 0;
    const over = new AbortController();
    const writing = (async () => {
      while (!over.signal.aborted) {
        const sector = Buffer.alloc(512);
        sector.writeUInt32LE(written + 1);
        await attached.write((written % 4096) * 512 + (written % 2) * 8 * MiB, sector);
        written += 1;
      }
    })();
    await eventually('some are written', () => written > 50);
    const before = written;
    const [snapshot, image] = await Promise.all([
      client
        .createSnapshot({ diskId: disk.id })
        .then((operation) => client.response(operation))
        .then((bytes) => Snapshot.decode(bytes)),
      client
        .createImage({ source: { $case: 'diskId', value: disk.id } })
        .then((operation) => client.response(operation))
        .then((bytes) => Image.decode(bytes)),
    ]);
    const afterwards = written;
    await eventually('more are written', () => written > afterwards + 10);
    over.abort();
    await writing;
    expect(snapshot.storageSize > 0n && image.storageSize > 0n).to.equal(true);
    for (const [table, { id }] of [
      ['snapshots', snapshot],
      ['images', image],
    ] as const) {
      await using source = await openStored(database.url, blobDirectoryOf(dataDirectory), table, id);
      let last = 0;
      const holes: number[] = [];
      for (let number = 0; number < Math.min(written, 4096); number += 1) {
        const sector = Buffer.alloc(4);
        await source.read(sector, (number % 4096) * 512 + (number % 2) * 8 * MiB);
        const value = sector.readUInt32LE();
        if (value === 0) holes.push(number);
        else last = Math.max(last, value);
      }
      expect(last, table).to.be.within(before, afterwards + 1);
      if (written <= 4096) expect(holes[0] ?? written, `${table} has no gap`).to.be.at.least(last);
    }
    // The writer has noticed nothing, and reads what it wrote.
    const sector = await attached.read(((written - 1) % 4096) * 512 + ((written - 1) % 2) * 8 * MiB, 4);
    expect(sector.readUInt32LE()).to.equal(written);
    await attached.flush();
  });

  it('serves snapshots and images to many readers at once, with their holes, and to no writer', async () => {
    const disk = await client.disk({ size: BigInt(32 * MiB) });
    const content = noise(5 * MiB);
    {
      await using attached = await AttachedDisk.open(socket, disk.id);
      await attached.write(9 * MiB, content);
    }
    const snapshot = await client.snapshot({ diskId: disk.id });
    const image = await client.image(await client.createImage({ source: { $case: 'snapshotId', value: snapshot.id } }));
    for (const { id } of [snapshot, image]) {
      await Promise.all(
        Array.from({ length: 4 }, async () => {
          await using reader = await AttachedDisk.open(socket, id);
          expect((await reader.read(9 * MiB, content.length)).equals(content)).to.equal(true);
          expect(await refusal(reader.write(0, Buffer.alloc(512)))).to.equal('errno 1');
        }),
      );
      const uri = await command('nbd', 'attach', id, '--tcp');
      expect(uri).to.match(/^nbd:\/\/127\.0\.0\.1:\d+\/nbd1\./);
      const copy = path.join(scratch, `${id}.raw`);
      await run('nbdcopy', [uri, copy], { timeout: 60_000 });
      const copied = await readFile(copy);
      expect(copied.length).to.equal(32 * MiB);
      expect(copied.subarray(9 * MiB, 14 * MiB).equals(content)).to.equal(true);
      expect(copied.subarray(0, 9 * MiB).equals(Buffer.alloc(9 * MiB))).to.equal(true);
      const { stdout } = await run('nbdinfo', ['--map', uri], { timeout: 60_000 });
      expect(stdout.split('\n')[0]).to.match(/^\s*0\s+9437184\s+3\s+hole,zero/);
    }
  });

  it('opens a disk for reading as it was, while nobody writes it', async () => {
    const disk = await client.disk();
    const content = noise(10_000);
    {
      await using attached = await AttachedDisk.open(socket, disk.id);
      await attached.write(0, content);
    }
    await committed(disk.id);
    const { ticket } = await client.createTicket(disk.id, { readOnly: true });
    await using reader = await AttachedDisk.open(port, ticket);
    await using other = await AttachedDisk.open(socket, `${disk.id}/ro`);
    {
      await using writer = await AttachedDisk.open(socket, disk.id);
      await writer.write(0, noise(10_000));
    }
    await committed(disk.id);
    for (const each of [reader, other]) expect((await each.read(0, content.length)).equals(content)).to.equal(true);
    expect(await refusal(reader.write(0, Buffer.alloc(512)))).to.equal('errno 1');
  });

  describe('tickets', () => {
    it('open one resource in one mode, for a while', async () => {
      const [one, other] = [await client.disk(), await client.disk()];
      const { ticket, uris, expiresAt } = await client.createTicket(one.id, { lifetimeSeconds: 2 });
      expect(uris).to.have.length(2);
      await using opened = await AttachedDisk.open(port, ticket);
      await eventually('it expires', () => Date.now() > expiresAt!.getTime());
      // What is open stays open.
      await opened.write(0, noise(512));
      expect(await refusal(AttachedDisk.open(port, ticket))).to.match(/ticket is not good, or has expired/);
      const fresh = (await client.createTicket(other.id)).ticket;
      for (const forged of [
        `${fresh.slice(0, -41)}${fresh.at(-41) === 'A' ? 'B' : 'A'}${fresh.slice(-40)}`,
        fresh.replace('nbd1', 't1'),
        fresh.slice(0, 100),
        `${fresh}/ro`,
        await obraz.token(),
      ]) {
        expect(await refusal(AttachedDisk.open(port, forged)), forged).to.match(/GO was refused/);
      }
    });

    it('are needed over TCP, and given for what there is in a mode that it has', async () => {
      const disk = await client.disk();
      expect(await refusal(AttachedDisk.open(port, disk.id))).to.contain('there is no such export');
      expect(await refusal(AttachedDisk.open(port, ''))).to.contain('there is no such export');
      expect(await code(client.createTicket('epd00000000000000000'))).to.equal(status.NOT_FOUND);
      expect(await code(client.createTicket(disk.id, { metadata: new Metadata() }))).to.equal(status.UNAUTHENTICATED);
      expect(await code(client.createTicket(disk.id, { lifetimeSeconds: 3601 }))).to.equal(status.INVALID_ARGUMENT);
      const snapshot = await client.snapshot({ diskId: disk.id });
      const asked = { resourceId: snapshot.id, mode: 1 as const, lifetime: undefined };
      expect(await code(unary(client.attachments, client.attachments.createTicket, asked, client.metadata))).to.equal(
        status.INVALID_ARGUMENT,
      );
    });

    it('are listed to nobody; the local socket lists what there is', async () => {
      const disk = await client.disk({ name: 'listed' });
      const { stdout } = await run('nbdinfo', ['--list', '--json', `nbd+unix://?socket=${socket}`], { timeout: 60_000 });
      const exports = (JSON.parse(stdout) as { exports: { 'export-name': string; description: string }[] }).exports;
      expect(exports.find((each) => each['export-name'] === disk.id)?.description).to.equal(`disk ${disk.id}: listed`);
      using stranger = await NbdClient.greeted(port);
      expect(await stranger.option(3)).to.have.length(1);
      expect((await stat(socket)).mode & 0o777).to.equal(0o600);
    });

    it('end with the token that they were asked for with, within seconds, and with the resource', async () => {
      const disk = await client.disk();
      const token = await command('token');
      const metadata = new Metadata();
      metadata.set('authorization', `Bearer ${token}`);
      const { ticket } = await client.createTicket(disk.id, { metadata });
      const content = noise(4096);
      const opened = await AttachedDisk.open(port, ticket);
      await opened.write(0, content);
      const iam = new IamTokenServiceClient(client.address, (await import('@grpc/grpc-js')).credentials.createInsecure());
      await unary(iam, iam.revoke, { iamToken: token }, client.metadata);
      iam.close();
      await opened.client.closed();
      expect(await refusal(AttachedDisk.open(port, ticket))).to.contain('GO was refused');
      // What was answered is there all the same.
      await committed(disk.id);
      await expectBytes('disks', disk.id, 0, content);

      const snapshot = await client.snapshot({ diskId: disk.id });
      const reader = await AttachedDisk.open(port, (await client.createTicket(snapshot.id)).ticket);
      await client.wait(await client.deleteSnapshot(snapshot.id));
      await reader.client.closed();
    });
  });

  it('lets a disk go with all that was written to it', async () => {
    const disk = await client.disk();
    {
      await using attached = await AttachedDisk.open(socket, disk.id);
      await attached.write(0, noise(MiB));
    }
    expect((await client.wait(await client.deleteDisk(disk.id))).result?.$case).to.equal('response');
    expect(await rows(database.url, 'select generation from disk_generations where disk_id = $1', [disk.id])).to.deep.equal([]);
    expect(await refusal(AttachedDisk.open(socket, disk.id))).to.contain('not found');
  });

  it('serves what it wrote when it was stopped and started again', async () => {
    const disk = await client.disk();
    const content = noise(300_000);
    const attached = await AttachedDisk.open(socket, disk.id);
    await attached.write(1000, content);
    client[Symbol.dispose]();
    expect(await obraz.stop()).to.deep.equal({ code: 0, signal: null });
    await attached.client.closed();
    await start();
    await using again = await AttachedDisk.open(socket, disk.id);
    expect((await again.read(1000, content.length)).equals(content)).to.equal(true);
  });
});
