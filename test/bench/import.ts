// Import of a disk of 4 GiB that holds 1.2 GB of real files, in every format, from nginx on this machine and through 10 ms of
// latency, against every way of qemu-img over HTTP. Wall time (ours is durable when it ends; theirs is given with and without), bytes fetched, peak memory, and the share of
// what the slowest stage alone allows. `node test/bench/main.ts import [format …]`, for example `import plain zlib`.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startDelayingProxy } from '../support/delaying-proxy.ts';
import { hasTool, median, run, table } from './figures.ts';
import { type BenchImage, benchImages, makeDisk, makeImage } from './import-images.ts';
import { stageSeconds } from './import-stages.ts';
import { httpPeers, importOnce, localPeer, type Taken } from './import-ways.ts';
import { type FolderServer, serveFolder } from './nginx.ts';

const rounds = Number(process.env['OBRAZ_TEST_BENCH_ROUNDS'] ?? 3);
const limitMs = 60_000;
const oneWayMs = 5;

export async function benchImport(names: readonly string[]): Promise<void> {
  for (const tool of ['qemu-img', 'mke2fs', 'curl', 'nginx', 'dd']) {
    if (hasTool(tool)) continue;
    console.warn(`SKIPPED: ${tool} is not installed`);
    return;
  }
  const chosen = names.length > 0 ? names : Object.keys(benchImages);
  const unknown = chosen.filter((name) => !Object.hasOwn(benchImages, name));
  if (unknown.length > 0)
    throw new Error(`no such format: ${unknown.join(', ')}; there are ${Object.keys(benchImages).join(', ')}`);
  const directory = await mkdtemp(path.join(tmpdir(), 'obraz-bench-'));
  const web = await serveFolder(directory);
  try {
    await empty(directory, web);
    const dataBytes = await makeDisk(directory);
    for (const name of chosen) await compare(name, { directory, web, dataBytes });
  } finally {
    await web[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  }
}

/** 1 TiB of holes. */
async function empty(directory: string, web: FolderServer): Promise<void> {
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', path.join(directory, 'empty.qcow2'), '1T']);
  const { seconds } = await importOnce({ url: `${web.url}/empty.qcow2`, limitMs });
  console.log(`an empty Qcow2 of 1 TiB: ${seconds.toFixed(2)} s (goal: below 1)`);
}

interface Bench {
  directory: string;
  web: FolderServer;
  dataBytes: number;
}

async function compare(name: string, { directory, web, dataBytes }: Bench): Promise<void> {
  const image = benchImages[name]!;
  const fileBytes = await makeImage(directory, image);
  const file = path.join(directory, image.file);
  await using proxy = await startDelayingProxy({ port: Number(new URL(web.url).port), oneWayMs });
  const near = `${web.url}/${image.file}`;
  const far = `http://127.0.0.1:${proxy.port}/${image.file}`;
  console.log(
    `\n${name}: ${image.file}, ${megabytes(fileBytes)} MB, ${megabytes(dataBytes)} MB of data, ${rounds} rounds in turn, medians`,
  );
  await report(image, { near, far, file, directory, web, fileBytes, dataBytes });
  if (image.format !== 'raw') await rm(file);
}

interface Places extends Bench {
  near: string;
  far: string;
  file: string;
  fileBytes: number;
}

async function report(image: BenchImage, places: Places): Promise<void> {
  const { near, far, file, directory, web, fileBytes, dataBytes } = places;
  const job = { url: near, format: image.format, directory, limitMs };
  const peaks: number[] = [];
  const fetched: number[] = [];
  const ours = (url: string) => async (): Promise<Taken> => {
    const before = await web.bytesSent();
    const { seconds, peakBytes } = await importOnce({ url, limitMs });
    peaks.push(peakBytes);
    fetched.push((await web.bytesSent()) - before);
    return { seconds, durableSeconds: seconds };
  };
  const ways: Record<string, () => Promise<Taken | undefined>> = {
    obraz: ours(near),
    ...Object.fromEntries(Object.entries(httpPeers).map(([name, way]) => [name, () => way(job)])),
    'qemu-img local file': () => localPeer(file)(job),
    'obraz, 10 ms away': ours(far),
    'qemu-img URL -m 16 -W, 10 ms away': () => httpPeers['qemu-img URL -m 16 -W']!({ ...job, url: far }),
    'curl, then qemu-img, 10 ms away': () => httpPeers['curl, then qemu-img']!({ ...job, url: far }),
  };
  const taken = new Map<string, (Taken | undefined)[]>(Object.keys(ways).map((name) => [name, []]));
  const stages: Record<string, number>[] = [];
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, way] of Object.entries(ways)) {
      const earlier = taken.get(name)!;
      // What hung once is not waited for again.
      earlier.push(earlier.includes(undefined) ? undefined : await way());
    }
    stages.push(await stageSeconds({ url: near, file, dataBytes, scratch: path.join(directory, 'out.raw') }));
  }
  const middle = (name: string, of: keyof Taken): number =>
    median(taken.get(name)!.flatMap((each) => (each === undefined ? [] : [each[of]])));
  const our = middle('obraz', 'seconds');
  table([
    ['way', 'seconds', 'times ours', 'durable', 'times ours', 'failed or hung'],
    ...Array.from(taken, ([name, values]) => {
      const failures = values.filter((value) => value === undefined).length;
      return [
        name,
        ...(['seconds', 'durableSeconds'] as const).flatMap((of) => [
          middle(name, of).toFixed(2),
          (middle(name, of) / our).toFixed(2),
        ]),
        failures === 0 ? '' : `${failures} of ${values.length}`,
      ];
    }),
  ]);
  const stage = Object.keys(stages[0]!).map((name) => ({ name, seconds: median(stages.map((each) => each[name]!)) }));
  const slowest = stage.reduce((a, b) => (b.seconds > a.seconds ? b : a));
  console.log(`each stage alone: ${stage.map((each) => `${each.name} ${each.seconds.toFixed(2)} s`).join(', ')}`);
  console.log(`of what the slowest (${slowest.name}) allows: ${((slowest.seconds / our) * 100).toFixed(0)} % (goal: 70)`);
  console.log(`bytes fetched: ${(Math.max(...fetched) / fileBytes).toFixed(3)} of the file (goal: at most 1.01)`);
  console.log(`peak resident memory of the service: ${(Math.max(...peaks) / 2 ** 20).toFixed(0)} MiB (goal: below 300)`);
  await rm(path.join(directory, 'out.raw'), { force: true });
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);
