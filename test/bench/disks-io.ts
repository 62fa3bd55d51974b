// Reads and writes over NBD, beside qemu-nbd on the same bytes: random data that does not compress, in a raw file and in a Qcow2 (64 KiB
// clusters, as made by qemu-img convert) of our own image. Unix sockets, page cache warm. The service has its default block cache of 256 MiB.
import { randomFillSync } from 'node:crypto';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AttachMode } from '../../generated/obraz/v1/attach.ts';
import { ObrazClient } from '../support/client.ts';
import { Obraz } from '../support/obraz.ts';
import { removeDataFolder } from '../support/postgres.ts';
import { ticketUri } from './disks-service.ts';
import { run } from './figures.ts';
import { compare, copy, must, random, sequential } from './nbd-compare.ts';
import { type NbdExport, exportOf, serveWithQemu } from './nbd-peers.ts';

const MiB = 1024 * 1024;
const rounds = Number(process.env['OBRAZ_TEST_BENCH_ROUNDS'] ?? 5);
const seconds = 1;
/** Fits into the cache; four times the cache. */
const smallBytes = 128 * MiB;
const largeBytes = 1024 * MiB;
const burstBytes = 384 * MiB;

interface Service {
  obraz: Obraz;
  client: ObrazClient;
}

/** The service on a data folder of its own, with a way to start it anew. */
class RunningService implements AsyncDisposable {
  readonly #dataDirectory: string;
  #current: Service | undefined;

  constructor(dataDirectory: string) {
    this.#dataDirectory = dataDirectory;
  }

  async start(): Promise<ObrazClient> {
    await this.stop();
    const obraz = await Obraz.start({ dataDirectory: this.#dataDirectory, environment: { OBRAZ_LOG_LEVEL: 'warn' } });
    this.#current = { obraz, client: await ObrazClient.of(obraz) };
    return this.client;
  }

  get client(): ObrazClient {
    return this.#current!.client;
  }

  async open(id: string, mode?: AttachMode): Promise<NbdExport> {
    return exportOf(await ticketUri(this.client, id, mode), this.#current!.obraz.child.pid!);
  }

  async stop(): Promise<void> {
    this.#current?.client[Symbol.dispose]();
    await this.#current?.obraz[Symbol.asyncDispose]();
    this.#current = undefined;
  }

  /** Until what was written to a disk lies in its layer: then it can be opened for reading. */
  async settled(diskId: string): Promise<void> {
    for (;;) {
      const { uri } = await this.open(diskId, AttachMode.ATTACH_MODE_READ_ONLY);
      if (await isOpenable(uri)) return;
      await sleep(200);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

const isOpenable = async (uri: string): Promise<boolean> =>
  (await run('sh', ['-c', 'qemu-img info "$0" >/dev/null 2>&1 && echo yes || echo no', uri])).stdout.trim() === 'yes';

async function withService(work: (service: RunningService, directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'obraz-bench-'));
  const dataDirectory = path.join(directory, 'data');
  try {
    await using service = new RunningService(dataDirectory);
    await service.start();
    await work(service, directory);
  } finally {
    await removeDataFolder(dataDirectory);
    await rm(directory, { recursive: true, force: true });
  }
}

async function randomFile(file: string, bytes: number): Promise<void> {
  const handle = await open(file, 'w');
  const part = Buffer.alloc(4 * MiB);
  for (let at = 0; at < bytes; at += part.length) await handle.write(randomFillSync(part), 0, part.length, at);
  await handle.datasync();
  await handle.close();
}

/** A disk that was written with the file over NBD, and an image of it. */
async function store(service: RunningService, file: string, bytes: number): Promise<string> {
  const { client } = service;
  const disk = await client.disk({ size: BigInt(bytes) });
  const { uri } = await service.open(disk.id);
  await must('nbdcopy', ['--flush', file, uri]);
  return (await client.import({ source: { $case: 'diskId', value: disk.id } })).id;
}

export const benchReads = (): Promise<void> =>
  withService(async (service, directory) => {
    const [small, large] = ['small.raw', 'large.raw'].map((name) => path.join(directory, name)) as [string, string];
    await randomFile(small, smallBytes);
    await randomFile(large, largeBytes);
    const smallId = await store(service, small, smallBytes);
    const largeId = await store(service, large, largeBytes);
    const smallDisk = await service.client.disk({ size: BigInt(smallBytes), source: { $case: 'imageId', value: smallId } });
    const largeQcow2 = path.join(directory, 'large.qcow2');
    await must('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', large, largeQcow2]);
    const { uri } = await service.open(largeId);
    await must('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', large, uri]);
    await using smallRaw = await serveWithQemu(small, 'raw', { readOnly: true });
    await using largeRaw = await serveWithQemu(large, 'raw', { readOnly: true });
    await using largeCow = await serveWithQemu(largeQcow2, 'qcow2', { readOnly: true });
    const largeServers = {
      'obraz, an image': () => service.open(largeId),
      'qemu-nbd, raw': async () => largeRaw,
      'qemu-nbd, Qcow2': async () => largeCow,
    };
    const smallServers = {
      'obraz, an image': () => service.open(smallId),
      'qemu-nbd, raw': async () => smallRaw,
    };

    const first = { ...largeServers, 'obraz, an image': async () => (await service.start(), service.open(largeId)) };
    await compare(
      {
        title: 'Sequential reads of 1 GiB after a start, 1 MiB, 8 under way: SHA-256 of every block',
        unit: 'MB',
        goal: 0.8,
        rounds,
      },
      first,
      sequential(largeBytes),
    );
    await compare(
      { title: 'The same again and again: every block is read from its file and checked', unit: 'MB', goal: 0.8, rounds },
      largeServers,
      sequential(largeBytes),
    );
    await compare({ title: 'nbdcopy of 1 GiB to null:', unit: 'MB', goal: 0.8, rounds }, largeServers, copy(largeBytes));
    await compare(
      { title: 'Sequential reads of 128 MiB that the cache holds', unit: 'MB', goal: 0.8, rounds },
      smallServers,
      sequential(4 * smallBytes),
    );
    for (const depth of [1, 64]) {
      const load = { command: 'read', depth, seconds } as const;
      await compare(
        { title: `Random reads of 4 KiB that the cache holds, ${depth} under way`, unit: 'operations', goal: 0.5, rounds },
        smallServers,
        random({ ...load, rangeBytes: smallBytes }),
      );
      await compare(
        { title: `The same, of a disk that is open for writing`, unit: 'operations', goal: 0.5, rounds },
        { 'obraz, a disk': () => service.open(smallDisk.id), 'qemu-nbd, raw': async () => smallRaw },
        random({ ...load, rangeBytes: smallBytes }),
      );
      await compare(
        { title: `Random reads of 4 KiB over four times the cache, ${depth} under way`, unit: 'operations', rounds },
        largeServers,
        random({ ...load, rangeBytes: largeBytes }),
      );
    }
  });

export const benchWrites = (): Promise<void> =>
  withService(async (service, directory) => {
    const source = path.join(directory, 'source.raw');
    await randomFile(source, largeBytes);
    const baseId = await store(service, source, largeBytes);
    const ours = await service.client.disk({ size: BigInt(largeBytes), source: { $case: 'imageId', value: baseId } });
    await service.settled(ours.id);
    const raw = path.join(directory, 'disk.raw');
    const qcow2 = path.join(directory, 'disk.qcow2');
    await must('cp', [source, raw]);
    await must('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', source, '-F', 'raw', qcow2]);
    await must('sync', []);
    await using rawServer = await serveWithQemu(raw, 'raw');
    await using cowServer = await serveWithQemu(qcow2, 'qcow2');
    const servers = {
      'obraz, a disk of an image': () => service.open(ours.id),
      'qemu-nbd, raw, allocated': async () => rawServer,
      'qemu-nbd, Qcow2 over a backing file': async () => cowServer,
    };
    const settle = async (name: string): Promise<void> => {
      if (name.startsWith('obraz')) await service.settled(ours.id);
      else await must('sync', []);
    };
    const how = { rounds, settle };
    await compare(
      { title: 'Sequential writes of 384 MiB, 1 MiB, 8 under way', unit: 'MB', goal: 0.8, ...how },
      servers,
      sequential(burstBytes, '-w', '--pattern=90'),
    );
    await compare(
      { title: 'The same with a flush every 64 MiB', unit: 'MB', goal: 0.8, ...how },
      servers,
      sequential(burstBytes, '-w', '--pattern=91', '--flush-interval=64'),
    );
    await compare(
      { title: 'nbdcopy of 1 GiB into it, and a flush: ours commits half of it meanwhile', unit: 'MB', ...how },
      servers,
      copy(largeBytes, source),
    );
    for (const depth of [1, 64])
      await compare(
        { title: `Random writes of 4 KiB, ${depth} under way`, unit: 'operations', goal: 0.5, ...how },
        servers,
        random({ command: 'write', depth, seconds, rangeBytes: smallBytes }),
      );
    await compare(
      { title: 'Random writes of 4 KiB with a flush after each', unit: 'operations', ...how },
      servers,
      random({ command: 'write', depth: 1, seconds, rangeBytes: smallBytes, flushes: true }),
    );
  });
