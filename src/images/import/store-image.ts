// Moves a disk image into a layer: chunks are planned in guest order, stored out of order by the pool, and the layer's builder is
// flushed every few seconds, so that a restart goes on from the last checkpoint.
import type { DiskImage } from '../../formats/disk-image.ts';
import { parseChunkAddress } from '../../storage/address.ts';
import type { LayerBuilder } from '../../storage/layers.ts';
import type { ChunkSource } from './chunk-pool.ts';
import { planChunks } from './plan.ts';

export interface StoreImageOptions {
  image: DiskImage;
  source: ChunkSource;
  builder: LayerBuilder;
  chunkBytes: number;
  /** Chunks under way at once. */
  concurrency: number;
  /** Chunks below this index are in the builder already. */
  fromIndex: number;
  checkpointIntervalMs: number;
  /** Called with the root of all that is durable: every chunk below `nextIndex` is in it. */
  onCheckpoint: (checkpoint: { root: string; nextIndex: number }) => Promise<void>;
  /** Told how far into the disk, in bytes, everything is stored. */
  onProgress: (bytesDone: number) => void;
  signal: AbortSignal;
}

/** Answers the root of the finished layer, durable. @throws the first error of any chunk, after all chunks under way have ended. */
export async function storeImage(options: StoreImageOptions): Promise<string> {
  const { image, source, builder, chunkBytes } = options;
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const underWay = new Map<number, Promise<void>>();
  let nextCheckpointAt = performance.now() + options.checkpointIntervalMs;

  const store = async (plan: Parameters<ChunkSource['store']>[0]): Promise<void> => {
    const { address } = await source.store(plan, signal);
    builder.set(plan.index, address === undefined ? undefined : parseChunkAddress(address));
    underWay.delete(plan.index);
    options.onProgress(Math.min(Math.min(plan.index + 1, ...underWay.keys()) * chunkBytes, image.sizeBytes));
  };

  let planned = options.fromIndex;
  const checkpointWhenDue = async (): Promise<void> => {
    if (performance.now() < nextCheckpointAt) return;
    // Plans come in ascending order, so the lowest index under way bounds what is complete; taken before the flush, because
    // chunks that end during it may miss the root.
    const nextIndex = Math.min(planned, ...underWay.keys());
    await options.onCheckpoint({ root: await builder.flush(), nextIndex });
    nextCheckpointAt = performance.now() + options.checkpointIntervalMs;
  };

  try {
    for await (const plan of planChunks(image, chunkBytes, options.fromIndex, signal)) {
      const task = store(plan);
      task.catch((error: unknown) => failed.abort(error));
      underWay.set(plan.index, task);
      planned = plan.index + 1;
      if (underWay.size >= options.concurrency) await Promise.race(underWay.values());
      await checkpointWhenDue();
    }
    // A small image is under way as a whole by now, and may come slowly.
    while (underWay.size > 0) {
      await Promise.race(underWay.values());
      await checkpointWhenDue();
    }
    return await builder.flush();
  } catch (error) {
    failed.abort(error);
    await Promise.allSettled(underWay.values());
    throw failed.signal.reason;
  }
}
