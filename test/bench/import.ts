// Import of a real file system of about 1 GiB over HTTP, plain and zlib Qcow2, against qemu-img from the same URL and from the local
// file. Wall time from Create to done (durable) and the service's peak resident memory.
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ObrazClient } from '../support/client.ts';
import { Obraz } from '../support/obraz.ts';
import { hasTool, median, run, table } from './figures.ts';
import { serveFolder } from './nginx.ts';

const rounds = 3;
const limitMs = 60_000;

export async function benchImport(): Promise<void> {
  for (const tool of ['qemu-img', 'mke2fs', 'curl', 'nginx']) {
    if (hasTool(tool)) continue;
    console.warn(`SKIPPED: ${tool} is not installed`);
    return;
  }
  const directory = await mkdtemp(path.join(tmpdir(), 'obraz-bench-'));
  const web = await serveFolder(directory);
  try {
    await makeImages(directory);
    for (const file of ['plain.qcow2', 'zlib.qcow2']) await compare(file, directory, web.url);
  } finally {
    await web[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  }
}

/** An ext4 file system of 2 GiB with about 1 GiB of this machine's own files, as Qcow2. */
async function makeImages(directory: string): Promise<void> {
  const raw = path.join(directory, 'disk.raw');
  const content = path.join(directory, 'content');
  await must('sh', [
    '-c',
    `mkdir ${content} && cd /usr && find . -type f -size -20M 2>/dev/null | head -60000 | awk '{print}' > ${directory}/files`,
  ]);
  await must('sh', [
    '-c',
    `cd /usr && tar -cf - -T ${directory}/files 2>/dev/null | head -c 1000000000 > ${content}/files.tar; rm ${directory}/files`,
  ]);
  await must('mke2fs', ['-q', '-t', 'ext4', '-d', content, raw, '2G']);
  await rm(content, { recursive: true });
  await must('qemu-img', ['convert', '-O', 'qcow2', raw, path.join(directory, 'plain.qcow2')]);
  await must('qemu-img', ['convert', '-c', '-O', 'qcow2', raw, path.join(directory, 'zlib.qcow2')]);
  await rm(raw);
}

async function must(command: string, args: string[]): Promise<void> {
  const { ok } = await run(command, args);
  if (!ok) throw new Error(`${command} failed`);
}

async function compare(file: string, directory: string, baseUrl: string): Promise<void> {
  const url = `${baseUrl}/${file}`;
  const local = path.join(directory, file);
  const output = path.join(directory, 'out.raw');
  console.log(`\n${file}: ${((await stat(local)).size / 1e6).toFixed(0)} MB, ${rounds} rounds in turn, medians`);
  const convert =
    (source: string, ...options: string[]) =>
    async (): Promise<number | undefined> => {
      await rm(output, { force: true });
      const result = await run('qemu-img', ['convert', ...options, '-O', 'raw', source, output], limitMs);
      return result.ok ? result.seconds : undefined;
    };
  const readAhead = `json:${JSON.stringify({ driver: 'qcow2', file: { driver: 'http', url, readahead: 8 * 1024 * 1024 } })}`;
  const dataBytes = (await stat(path.join(directory, 'plain.qcow2'))).size;
  const peaks: number[] = [];
  const ways: Record<string, () => Promise<number | undefined>> = {
    'obraz, Create to done': async () => {
      const { seconds, peakBytes } = await importOnce(url);
      peaks.push(peakBytes);
      return seconds;
    },
    'qemu-img URL': convert(url, '-f', 'qcow2'),
    'qemu-img URL -m 16 -W': convert(url, '-f', 'qcow2', '-m', '16', '-W'),
    'qemu-img URL, read-ahead': convert(readAhead),
    'curl, then qemu-img': async () => {
      const copy = path.join(directory, 'copy.qcow2');
      const download = await run('curl', ['-sS', '-o', copy, url], limitMs);
      const converted = await convert(copy, '-f', 'qcow2')();
      await rm(copy, { force: true });
      return converted === undefined || !download.ok ? undefined : download.seconds + converted;
    },
    'qemu-img local file': convert(local, '-f', 'qcow2'),
    // Ours is durable when it is done; what qemu-img writes is in memory until it is synced.
    'qemu-img URL -m 16 -W, synced': async () => {
      const converted = await convert(url, '-f', 'qcow2', '-m', '16', '-W')();
      const synced = await run('sync', [output], limitMs);
      return converted === undefined ? undefined : converted + synced.seconds;
    },
    'write as much, past the cache (dd)': async () => {
      const megabytes = String(Math.ceil(dataBytes / 2 ** 20));
      return (
        await run('dd', ['if=/dev/zero', `of=${output}`, 'bs=1M', `count=${megabytes}`, 'oflag=direct', 'conv=fsync'], limitMs)
      ).seconds;
    },
  };
  const seconds = new Map<string, (number | undefined)[]>(Object.keys(ways).map((name) => [name, []]));
  for (let round = 0; round < rounds; round += 1)
    for (const [name, way] of Object.entries(ways)) seconds.get(name)!.push(await way());
  const ours = median(seconds.get('obraz, Create to done')!.filter((value) => value !== undefined));
  table([
    ['way', 'seconds', 'times ours', 'failed or hung'],
    ...Array.from(seconds, ([name, values]) => {
      const ended = values.filter((value) => value !== undefined);
      const middle = median(ended);
      return [name, middle.toFixed(2), (middle / ours).toFixed(2), `${values.length - ended.length} of ${values.length}`];
    }),
  ]);
  console.log(`peak resident memory of the service: ${(Math.max(...peaks) / 2 ** 20).toFixed(0)} MiB (goal: below 300)`);
  await rm(output, { force: true });
}

/** One import by a service of its own, so that nothing is stored already and the peak is this import's. */
async function importOnce(url: string): Promise<{ seconds: number; peakBytes: number }> {
  await using obraz = await Obraz.start({ environment: { OBRAZ_LOG_LEVEL: 'warn' } });
  using client = await ObrazClient.of(obraz);
  const startedAt = performance.now();
  await client.image(await client.createImage({ name: 'bench', source: { $case: 'uri', value: url } }), limitMs);
  const seconds = (performance.now() - startedAt) / 1000;
  const status = await readFile(`/proc/${obraz.child.pid}/status`, 'utf8').catch(() => '');
  return { seconds, peakBytes: Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? Number.NaN) * 1024 };
}
