// A thread of the bench: reads every n-th part of a source, as an import's threads do, a few parts at a time.
import { parentPort, workerData } from 'node:worker_threads';
import type { SourceInfo } from '../../src/sources/probe.ts';
import { httpRangeSource } from '../../src/sources/range-reader.ts';

export interface ReadTask {
  info: SourceInfo;
  partBytes: number;
  /** This thread reads the parts index, index + threads, index + 2 × threads … */
  index: number;
  threads: number;
  partsAtOnce: number;
}

const { info, partBytes, index, threads, partsAtOnce } = workerData as ReadTask;

async function readMyParts(): Promise<number> {
  await using source = httpRangeSource(info, { maxConnections: partsAtOnce });
  let next = index;
  const read = async () => {
    const buffer = new Uint8Array(partBytes);
    while (next * partBytes < source.sizeBytes) {
      const offset = next * partBytes;
      next += threads;
      await source.read(buffer.subarray(0, Math.min(partBytes, source.sizeBytes - offset)), offset);
    }
  };
  await Promise.all(Array.from({ length: partsAtOnce }, read));
  return source.bytesFetched;
}

const port = parentPort!;
port.once('message', () => void readMyParts().then((bytesFetched) => port.postMessage(bytesFetched)));
port.postMessage('ready');
