// A disk image on a web server that sends it slowly, so that an import lasts long enough for things to happen in its midst; and what
// must be true of the service's database and store afterwards.
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { Client, type QueryResultRow } from 'pg';
import { cachedFile, firstDifference, type GuestData, qemuImg, scratchPath, writeGuest } from './images.ts';
import { randomFrom } from './sample.ts';
import { openStoredImage } from './stored-image.ts';
import { type Behaviour, startWebServer, type WebServer } from './web-server.ts';

const MiB = 1024 * 1024;
const chunkBytes = 4 * MiB;

/** Of one connection. With one import thread (4 connections) about 13 MB/s. */
export const slowly: Behaviour = { trickle: { bytes: 64 * 1024, everyMs: 20 } };

/** Connections that one import thread has to one server, each with at most one chunk under way. */
export const connectionsPerThread = 4;

/** Imports of one thread: with a known number of chunks under way. */
export const oneThread = { OBRAZ_IMPORT_THREADS: '1' };

interface MappedRun {
  start: number;
  length: number;
  data: boolean;
  offset?: number;
}

/** Formats as qemu-img is asked for them. */
export const slowFormats = {
  qcow2: { driver: 'qcow2', options: [] },
  'qcow2 zlib': { driver: 'qcow2', options: ['-c'] },
  'qcow2 zstd': { driver: 'qcow2', options: ['-c', '-o', 'compression_type=zstd'] },
  'vmdk sparse': { driver: 'vmdk', options: ['-o', 'subformat=monolithicSparse'] },
  'vmdk streamOptimized': { driver: 'vmdk', options: ['-o', 'subformat=streamOptimized'] },
  'vhd dynamic': { driver: 'vpc', options: ['-o', 'subformat=dynamic'] },
  'vhd fixed': { driver: 'vpc', options: ['-o', 'subformat=fixed'] },
  raw: { driver: 'raw', options: [] },
} as const satisfies Record<string, { driver: string; options: readonly string[] }>;

export type SlowFormat = keyof typeof slowFormats;

export interface SlowImage extends AsyncDisposable {
  /** The file. */
  content: Buffer;
  /** The guest's bytes as qemu-img reads them. */
  rawPath: string;
  /** Bytes of the file, those of the chunks below an index, that were asked for by these requests; 0 where the data is packed. */
  bytesBelow(nextIndex: number, ranges: readonly (ByteRange | undefined)[]): number;
}

interface ByteRange {
  start: number;
  end: number;
}

/** A disk with `dataBytes` of text and noise, with holes between and at both ends. */
export async function makeSlowImage(dataBytes: number, format: SlowFormat = 'qcow2'): Promise<SlowImage> {
  const { driver, options } = slowFormats[format];
  const path = await cachedFile({ slow: dataBytes, driver, options, revision: 2 }, async (target) => {
    const raw = scratchPath();
    try {
      const random = randomFrom(dataBytes);
      const pieces: GuestData[] = [];
      let at = 5 * MiB;
      for (let left = dataBytes; left > 0;) {
        const length = Math.min(left, Math.ceil(random() * 12) * MiB + 512 * 7);
        // What repeats could be stored once and hide a mistake: every run has noise or text of its own.
        pieces.push({ at, length, kind: random() < 0.5 ? 'noise' : 'text' });
        at += Math.floor((length + random() * 3 * MiB) / 512) * 512;
        left -= length;
      }
      writeGuest(raw, Math.ceil((at + 9 * MiB) / 512) * 512, pieces, 1);
      await qemuImg('convert', '-f', 'raw', '-O', driver, ...options, raw, target);
    } finally {
      await rm(raw, { force: true });
    }
  });
  const { stdout } = await promisify(execFile)('qemu-img', ['map', '--output=json', '-f', driver, path], {
    maxBuffer: 64 * MiB,
  });
  const map = JSON.parse(stdout) as MappedRun[];
  const folder = await mkdtemp(join(tmpdir(), 'obraz-slow-'));
  const rawPath = join(folder, 'disk.raw');
  await qemuImg('convert', '-f', driver, '-O', 'raw', path, rawPath);
  return {
    content: await readFile(path),
    rawPath,
    bytesBelow(nextIndex, ranges) {
      const limit = nextIndex * chunkBytes;
      const below = map
        .filter((run) => run.data && run.offset !== undefined && run.start < limit)
        .map((run) => ({ start: run.offset!, end: run.offset! + Math.min(run.length, limit - run.start) }));
      let sum = 0;
      for (const range of ranges)
        for (const part of below)
          if (range !== undefined) sum += Math.max(0, Math.min(range.end, part.end) - Math.max(range.start, part.start));
      return sum;
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

/** How much the server had sent by when: to say what was sent in the last so many milliseconds. */
export interface SentLog extends Disposable {
  within(ms: number): number;
}

export function logSent(web: WebServer): SentLog {
  const samples: { at: number; bytes: number }[] = [{ at: performance.now(), bytes: 0 }];
  const timer = setInterval(() => samples.push({ at: performance.now(), bytes: web.bytesSent }), 20);
  return {
    within(ms) {
      const since = performance.now() - ms;
      return web.bytesSent - (samples.findLast(({ at }) => at <= since)?.bytes ?? 0);
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

export const serveSlowly = (image: SlowImage, behaviour: Behaviour = {}): Promise<WebServer> =>
  startWebServer({ content: image.content, behaviour: { ...slowly, ...behaviour } });

/** One statement on the service's database. */
export async function rows<Row extends QueryResultRow>(databaseUrl: string, sql: string, values: unknown[] = []): Promise<Row[]> {
  const client = new Client({ connectionString: databaseUrl });
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query<Row>(sql, values)).rows;
  } finally {
    await client.end();
  }
}

export interface JobRow {
  attempt: number;
  leased: boolean;
  owner: string | null;
  next_index: number | null;
}

/** The operation's job, undefined when it has none. */
export async function jobRow(databaseUrl: string, operationId: string): Promise<JobRow | undefined> {
  const [row] = await rows<JobRow>(
    databaseUrl,
    `select attempt, lease_owner as owner, coalesce(lease_until > now(), false) as leased, (checkpoint ->> 'nextIndex')::int as next_index
     from jobs where operation_id = $1`,
    [operationId],
  );
  return row;
}

/** As if the time of a lease had passed. Only when its owner is dead. */
export const endLeases = (databaseUrl: string): Promise<unknown> => rows(databaseUrl, 'update jobs set lease_until = now()');

/** The image is whole in the store and no job is left. */
export async function expectWhole(databaseUrl: string, blobDirectory: string, imageId: string, rawPath: string): Promise<void> {
  await using stored = await openStoredImage(databaseUrl, blobDirectory, imageId);
  expect(await firstDifference(stored, rawPath)).to.equal(undefined);
  expect(await rows(databaseUrl, 'select operation_id from jobs')).to.deep.equal([]);
}
