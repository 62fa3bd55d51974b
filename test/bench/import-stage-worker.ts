// One thread's share of one stage. Says that it is ready, waits, works, exits.
import { hash } from 'node:crypto';
import { once } from 'node:events';
import { parentPort, workerData } from 'node:worker_threads';
import { diskImageReader } from '../../src/formats/disk-image-reader.ts';
import { openDiskImage } from '../../src/formats/open.ts';
import { planChunks } from '../../src/images/import/plan.ts';
import { fileSource } from '../../src/sources/file-source.ts';

export type StageTask = { kind: 'unpack'; file: string } | { kind: 'hash'; dataBytes: number };

const chunkBytes = 4 * 1024 * 1024;
const blockBytes = 64 * 1024;
const { task, share, threads } = workerData as { task: StageTask; share: number; threads: number };

async function unpack(file: string): Promise<void> {
  await using source = await fileSource(file);
  const signal = new AbortController().signal;
  const image = await openDiskImage(source, { maxSizeBytes: 2 ** 42, maxTableBytes: 32 * 1024 * 1024 }, signal);
  const reader = diskImageReader(image, source);
  const chunk = new Uint8Array(chunkBytes);
  for await (const { index, lengthBytes } of planChunks(image, chunkBytes, 0, signal)) {
    if (index % threads === share) await reader.read(chunk.subarray(0, lengthBytes), index * chunkBytes, signal);
  }
}

function hashAll(dataBytes: number): void {
  const block = new Uint8Array(blockBytes).fill(7);
  for (let done = 0; done < dataBytes / threads; done += blockBytes) hash('sha256', block, 'buffer');
}

parentPort!.postMessage('ready');
await once(parentPort!, 'message');
if (task.kind === 'unpack') await unpack(task.file);
else hashAll(task.dataBytes);
process.exit(0);
