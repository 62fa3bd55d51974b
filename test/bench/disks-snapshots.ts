// A snapshot of a disk of 1 GiB of which 1 % was written since the one before, while its writer stays attached, against a full copy of a file
// of the same bytes. Ours is Create until its operation is done: sealed, committed to a layer, durable. Scattered writes touch every chunk of
// 4 MiB, and a snapshot then writes as much as a copy.
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { randomFillSync } from 'node:crypto';
import { NbdClient, request } from '../support/nbd-client.ts';
import { type RunningService, randomFile, store, withService } from './disks-service.ts';
import { median, table } from './figures.ts';
import { must } from './nbd-compare.ts';

const MiB = 1024 * 1024;
const diskBytes = 1024 * MiB;
const rounds = Number(process.env['OBRAZ_TEST_BENCH_ROUNDS'] ?? 5);

interface Result {
  seconds: number;
  /** What it added to what is stored. */
  storedBytes: number;
}

/** Where 1 % is written, and in pieces of how many bytes. */
const patterns = {
  'nothing changed': { count: 0, bytes: 4096, stepBytes: 4096 },
  '1 % changed, one stretch of 10 MiB': { count: 10, bytes: MiB, stepBytes: MiB },
  '1 % changed, ten stretches of 1 MiB': { count: 10, bytes: MiB, stepBytes: 96 * MiB },
  '1 % changed, 2,560 sectors of 4 KiB all over the disk': { count: 2560, bytes: 4096, stepBytes: 409_600 },
};

export const benchSnapshots = (): Promise<void> =>
  withService(async (service, directory) => {
    const source = path.join(directory, 'source.raw');
    const target = path.join(directory, 'copy');
    await randomFile(source, diskBytes);
    const imageId = await store(service, source, diskBytes);
    const disk = await service.client.disk({ size: BigInt(diskBytes), source: { $case: 'imageId', value: imageId } });
    await service.client.snapshot({ diskId: disk.id });
    const copy =
      (command: string, ...args: string[]) =>
      async (): Promise<Result> => {
        await rm(target, { force: true });
        const { seconds } = await must(command, args);
        // Ours is durable when it is done.
        const synced = await must('sync', [target]);
        return { seconds: seconds + synced.seconds, storedBytes: diskBytes };
      };
    const ways: Record<string, () => Promise<Result>> = {
      ...Object.fromEntries(
        Object.entries(patterns).map(([name, pattern]) => [`snapshot, ${name}`, () => snapshotAfter(service, disk.id, pattern)]),
      ),
      'cp --sparse=always, sync': copy('cp', '--sparse=always', source, target),
      'qemu-img convert to Qcow2, sync': copy('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', source, target),
    };
    const results = new Map<string, Result[]>(Object.keys(ways).map((name) => [name, []]));
    for (let round = 0; round < rounds; round += 1)
      for (const [name, way] of Object.entries(ways)) {
        results.get(name)!.push(await way());
        await service.settled(disk.id);
      }
    const full = median(results.get('cp --sparse=always, sync')!.map(({ seconds }) => seconds));
    console.log(`\nA copy of a moment of 1 GiB (${rounds} rounds in turn, medians)`);
    table([
      ['way', 'seconds', 'cp / it', 'MiB stored'],
      ...Array.from(results, ([name, each]) => {
        const seconds = median(each.map((result) => result.seconds));
        const stored = median(each.map((result) => result.storedBytes)) / MiB;
        return [name, seconds.toFixed(3), (full / seconds).toFixed(2), stored.toFixed(0)];
      }),
    ]);
  });

async function snapshotAfter(
  service: RunningService,
  diskId: string,
  { count, bytes, stepBytes }: { count: number; bytes: number; stepBytes: number },
): Promise<Result> {
  const { socketPath, exportName } = await service.open(diskId);
  // Stays attached until the snapshot is done.
  using writer = await NbdClient.opened(socketPath, exportName);
  const data = randomFillSync(Buffer.alloc(bytes));
  for (let index = 0; index < count; index += 1) {
    writer.send(request('write', { offset: index * stepBytes, length: bytes }), data);
    const { error } = await writer.simpleReply();
    if (error !== 0) throw new Error(`a write failed: ${error}`);
  }
  const startedAt = performance.now();
  const snapshot = await service.client.snapshot({ diskId });
  return { seconds: (performance.now() - startedAt) / 1000, storedBytes: Number(snapshot.storageSize) };
}
