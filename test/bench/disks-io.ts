// Reads and writes over NBD, beside qemu-nbd on the same bytes: random data that does not compress, in a raw file and in a Qcow2 (64 KiB
// clusters, as made by qemu-img convert) of our own image. Unix sockets, page cache warm. The service has its default block cache of 256 MiB.
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { randomFile, store, withService } from './disks-service.ts';
import { compare, copy, must, random, sequential } from './nbd-compare.ts';
import { type NbdExport, type QemuNbd, serveWithQemu } from './nbd-peers.ts';

const MiB = 1024 * 1024;
const rounds = Number(process.env['OBRAZ_TEST_BENCH_ROUNDS'] ?? 5);
const seconds = 1;
/** Fits into the cache; four times the cache. */
const smallBytes = 128 * MiB;
const largeBytes = 1024 * MiB;
const burstBytes = 384 * MiB;

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

    const restarted = async (): Promise<NbdExport> => {
      await service.start();
      // Nothing of the large one is known; its code has run.
      await sequential(smallBytes)(await service.open(smallId));
      return service.open(largeId);
    };
    await compare(
      {
        title: 'Sequential reads of 1 GiB for the first time since a start, 1 MiB, 8 under way: SHA-256 of every block',
        unit: 'MB',
        goal: 0.8,
        rounds,
      },
      { ...largeServers, 'obraz, an image': restarted },
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

async function newOverlay(source: string, target: string): Promise<void> {
  await rm(target, { force: true });
  await must('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', source, '-F', 'raw', target]);
}

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
    await newOverlay(source, qcow2);
    await must('sync', []);
    await using rawServer = await serveWithQemu(raw, 'raw');
    const servers = {
      'obraz, a disk of an image': () => service.open(ours.id),
      'qemu-nbd, raw, allocated': async () => rawServer,
      'qemu-nbd, new Qcow2 over a raw file': async () => (cow = await serveWithQemu(qcow2, 'qcow2')),
    };
    let cow: QemuNbd | undefined;
    const settle = async (name: string): Promise<void> => {
      if (name.startsWith('obraz')) await service.settled(ours.id);
      await cow?.[Symbol.asyncDispose]();
      cow = undefined;
      await newOverlay(source, qcow2);
      await must('sync', []);
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
