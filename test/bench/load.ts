// Load by h2load: a JavaScript client would be what is measured.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { run } from './figures.ts';

export interface LoadOptions {
  /** host:port, plaintext. */
  address: string;
  /** `yandex.cloud.compute.v1.ImageService/Get`. */
  method: string;
  message: Uint8Array;
  headers?: Record<string, string>;
  seconds?: number;
  connections?: number;
  streams?: number;
}

/** Answers finished calls per second. @throws when any call failed at the HTTP level. */
export async function callsPerSecond(options: LoadOptions): Promise<number> {
  const directory = await mkdtemp(path.join(tmpdir(), 'obraz-load-'));
  try {
    const frame = Buffer.alloc(5 + options.message.length);
    frame.writeUInt32BE(options.message.length, 1);
    frame.set(options.message, 5);
    const body = path.join(directory, 'body');
    await writeFile(body, frame);
    const headers = { 'content-type': 'application/grpc', te: 'trailers', ...options.headers };
    const result = await run('h2load', [
      '--duration',
      String(options.seconds ?? 5),
      '--warm-up-time',
      '2',
      '-c',
      String(options.connections ?? 4),
      '-m',
      String(options.streams ?? 16),
      '-t',
      '1',
      '-d',
      body,
      ...Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]),
      `http://${options.address}/${options.method}`,
    ]);
    const rate = /finished in [^,]+, ([\d.]+) req\/s/.exec(result.stdout);
    const failures = /(\d+) failed, (\d+) errored, (\d+) timeout/.exec(result.stdout);
    if (rate === null || failures === null || failures.slice(1).some((count) => count !== '0')) {
      throw new Error(`h2load failed:\n${result.stdout}`);
    }
    return Number(rate[1]);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
