// A disk of an image of 1 GiB, of 100 GiB and of 4 TiB (1,048,576 chunks, all of them there), and 1,000 disks of one image, against the ways
// to get a writable copy of an image file of the same size. Ours is Create until its operation is done, which is a durable commit; theirs
// are whole processes, and durable never.
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ObrazClient } from '../support/client.ts';
import { fillOf, makeUpImages } from '../support/made-up-images.ts';
import { writeMadeUpQcow2 } from '../support/made-up-qcow2.ts';
import { highRates, Obraz } from '../support/obraz.ts';
import { removeDataFolder } from '../support/postgres.ts';
import { ticketUri } from './disks-service.ts';
import { median, run, table } from './figures.ts';

const GiB = 1024 ** 3;
const sizes: Readonly<Record<string, number>> = { '1 GiB': GiB, '100 GiB': 100 * GiB, '4 TiB': 4096 * GiB };
const rounds = 20;
const copyRounds = 3;
const many = 1000;
const chunkBytes = 4 * 1024 * 1024;

type Images = Record<string, { id: string; bytes: number; file: string }>;

export async function benchClones(): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'obraz-bench-'));
  const dataDirectory = path.join(directory, 'data');
  const options = { dataDirectory, environment: { OBRAZ_LOG_LEVEL: 'warn', ...highRates } };
  try {
    const images: Images = {};
    {
      await using obraz = await Obraz.start(options);
      using client = await ObrazClient.of(obraz);
      for (const [name, bytes] of Object.entries(sizes)) {
        const seed = await client.disk();
        const { id } = await client.import({ source: { $case: 'diskId', value: seed.id } });
        images[name] = { id, bytes, file: path.join(directory, `${bytes}.qcow2`) };
        await writeMadeUpQcow2(images[name].file, bytes);
      }
    }
    await makeUpImages(dataDirectory, new Map(Object.values(images).map(({ id, bytes }) => [id, bytes])));
    await using obraz = await Obraz.start(options);
    using client = await ObrazClient.of(obraz);
    await sizesInTurn(client, images, directory);
    await copies(images['1 GiB']!.file, directory);
    await manyDisks(client, images['4 TiB']!, directory);
    await isReal(client, images['4 TiB']!);
  } finally {
    await removeDataFolder(dataDirectory);
    await rm(directory, { recursive: true, force: true });
  }
}

const secondsOf = async (work: () => Promise<unknown>): Promise<number> => {
  const startedAt = performance.now();
  await work();
  return (performance.now() - startedAt) / 1000;
};

const ms = (seconds: number): string => (seconds * 1000).toFixed(1);

const clone = (client: ObrazClient, { id, bytes }: Images[string]): Promise<unknown> =>
  client.disk({ size: BigInt(bytes), source: { $case: 'imageId', value: id } });

const overlay = async (file: string, target: string): Promise<void> => {
  await rm(target, { force: true });
  await must('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', file, '-F', 'qcow2', target]);
};

async function sizesInTurn(client: ObrazClient, images: Images, directory: string): Promise<void> {
  const ours = new Map<string, number[]>();
  const theirs = new Map<string, number[]>();
  const starts: number[] = [];
  for (let round = 0; round < rounds; round += 1)
    for (const [name, image] of Object.entries(images)) {
      const target = path.join(directory, 'overlay.qcow2');
      const our = await secondsOf(() => clone(client, image));
      const their = await secondsOf(() => overlay(image.file, target));
      starts.push(await secondsOf(() => must('qemu-img', ['--version'])));
      ours.set(name, [...(ours.get(name) ?? []), our]);
      theirs.set(name, [...(theirs.get(name) ?? []), their]);
    }
  const least = median(ours.get('1 GiB')!);
  console.log(`A disk of an image, ${rounds} rounds in turn, medians (qemu-img's own start: ${ms(median(starts))} ms)`);
  table([
    ['image', 'Create to done, ms', 'of 1 GiB', 'qemu-img create -b, ms', 'ratio theirs / ours'],
    ...Object.keys(images).map((name) => {
      const [our, their] = [median(ours.get(name)!), median(theirs.get(name)!)];
      return [name, ms(our), (our / least).toFixed(2), ms(their), (their / our).toFixed(2)];
    }),
  ]);
}

/** Full copies of 1 GiB of data; what they take grows with the size. */
async function copies(file: string, directory: string): Promise<void> {
  const raw = path.join(directory, 'full.raw');
  const target = path.join(directory, 'copy');
  await must('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', file, raw]);
  const ways: Record<string, () => Promise<void>> = {
    'cp --sparse=always': () => must('cp', ['--sparse=always', raw, target]),
    'qemu-img convert to Qcow2': () => must('qemu-img', ['convert', '-f', 'qcow2', '-O', 'qcow2', file, target]),
    'qemu-img convert to raw': () => must('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', file, target]),
  };
  const seconds = new Map<string, number[]>(Object.keys(ways).map((name) => [name, []]));
  for (let round = 0; round < copyRounds; round += 1)
    for (const [name, way] of Object.entries(ways)) {
      await rm(target, { force: true });
      seconds.get(name)!.push(await secondsOf(way));
    }
  await rm(target, { force: true });
  await rm(raw);
  console.log(
    `\nFull copies of the 1 GiB image, ${copyRounds} rounds in turn, medians; 100 GiB and 4 TiB are that rate, not measured`,
  );
  table([
    ['way', '1 GiB, s', '100 GiB, s', '4 TiB, s'],
    ...Array.from(seconds, ([name, values]) => {
      const one = median(values);
      return [name, one.toFixed(2), `(${(one * 100).toFixed(0)})`, `(${(one * 4096).toFixed(0)})`];
    }),
  ]);
}

async function manyDisks(client: ObrazClient, image: Images[string], directory: string): Promise<void> {
  const ours: number[] = [];
  const theirs: number[] = [];
  const target = path.join(directory, 'overlay.qcow2');
  const perRound = many / 4;
  for (let round = 0; round < 4; round += 1) {
    ours.push(await secondsOf(() => inParallel(perRound, 1, () => clone(client, image))));
    theirs.push(await secondsOf(() => inParallel(perRound, 1, () => overlay(image.file, target))));
  }
  const sum = (values: number[]): number => values.reduce((a, b) => a + b, 0);
  const atOnce = await secondsOf(() => inParallel(many, 16, () => clone(client, image)));
  console.log(`\n${many} disks of the 4 TiB image`);
  table([
    ['way', 'seconds', 'disks/s'],
    ['Create to done, one after another', sum(ours).toFixed(2), (many / sum(ours)).toFixed(0)],
    ['Create to done, 16 at once', atOnce.toFixed(2), (many / atOnce).toFixed(0)],
    ['qemu-img create -b, one after another', sum(theirs).toFixed(2), (many / sum(theirs)).toFixed(0)],
  ]);
  console.log(
    `one after another: ratio theirs / ours ${(sum(theirs) / sum(ours)).toFixed(2)}; an overlay file has ${(await stat(target)).size} bytes`,
  );
}

/** Reads a few places of a disk of the largest image over NBD: what was made up is there. */
async function isReal(client: ObrazClient, image: Images[string]): Promise<void> {
  const disk = await client.disk({ size: BigInt(image.bytes), source: { $case: 'imageId', value: image.id } });
  const uri = await ticketUri(client, disk.id);
  const chunks = image.bytes / chunkBytes;
  const places = [0, 1023, 1024, chunks >> 1, chunks - 1];
  const commands = places.flatMap((index) => ['-c', `read -P ${fillOf(index)} ${index * chunkBytes} 64k`]);
  const { ok, stdout } = await run('qemu-io', ['-r', '-f', 'raw', ...commands, uri]);
  const isRight = ok && !stdout.includes('Pattern verification failed');
  console.log(`A disk of 4 TiB read over NBD at ${places.length} places: ${isRight ? 'as it should be' : `WRONG\n${stdout}`}`);
}

async function inParallel(count: number, atOnce: number, work: () => Promise<unknown>): Promise<void> {
  let left = count;
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (left-- > 0) await work();
    }),
  );
}

async function must(command: string, args: string[]): Promise<void> {
  const { ok } = await run(command, args);
  if (!ok) throw new Error(`${command} ${args.join(' ')} failed`);
}
