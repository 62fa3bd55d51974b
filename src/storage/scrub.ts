// Scrub: reads every object of a store again, at a bounded rate, and compares it with its address. What it finds is reported and marked as
// by any other reader (damage.ts), so that the next put of the same data repairs it.
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChunkAddress, PageAddress } from './address.ts';
import type { BlobStore } from './blob-store.ts';
import { ChunkCorruptError, PageCorruptError } from './damage.ts';
import type { Storage } from './open.ts';
import type { PageStore } from './page-store.ts';
import { corruptMarksPrefix, objectKinds, objectPrefix, parseCorruptMarkKey, parseObjectKey } from './paths.ts';

export interface ScrubOptions {
  blobs: BlobStore;
  verifyChunk: Storage['verifyChunk'];
  pages: PageStore;
  /** Bytes of objects that are read per second at most. */
  bytesPerSecond: number;
  /** Goes on behind this key, where an earlier scrub was stopped. */
  after?: string | undefined;
  /** Called after every object; keep `key` to go on behind it later. */
  onProgress?: ((progress: Scrubbed & { key: string }) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface Scrubbed {
  objects: number;
  bytes: number;
  damaged: number;
  /** The first damaged objects, a thousand at most. */
  damagedKeys: readonly string[];
}

const mostKeys = 1000;

/** @throws TransientError when the store is away; signal.reason when aborted. */
export async function scrub(options: ScrubOptions): Promise<Scrubbed> {
  const { blobs, after = '', bytesPerSecond, signal } = options;
  const damagedKeys: string[] = [];
  const scrubbed = { objects: 0, bytes: 0, damaged: 0, damagedKeys };
  const startedAt = performance.now();
  // Kinds and keys ascend alike, so `after` orders them all.
  for (const kind of objectKinds)
    for await (const { key, sizeBytes } of blobs.list(objectPrefix(kind))) {
      if (key <= after) continue;
      signal?.throwIfAborted();
      const verdict = await verify(options, key);
      if (verdict === 'gone') continue;
      scrubbed.objects += 1;
      scrubbed.bytes += sizeBytes;
      if (verdict === 'damaged') {
        scrubbed.damaged += 1;
        if (damagedKeys.length < mostKeys) damagedKeys.push(key);
      }
      options.onProgress?.({ ...scrubbed, key });
      await pause(startedAt + (scrubbed.bytes / bytesPerSecond) * 1000 - performance.now(), signal);
    }
  await removeStaleMarks(options);
  return scrubbed;
}

type Verdict = 'whole' | 'damaged' | 'gone';

/** A listed object may be deleted before it is read; that is no damage. */
async function verify({ verifyChunk, pages, signal }: ScrubOptions, key: string): Promise<Verdict> {
  const object = parseObjectKey(key);
  if (object === undefined) return 'gone';
  try {
    const sizeBytes =
      object.kind === 'chunks'
        ? await verifyChunk(object.address as ChunkAddress, signal)
        : await pages.verify(object.address as PageAddress);
    return sizeBytes === undefined ? 'gone' : 'whole';
  } catch (error) {
    if (error instanceof ChunkCorruptError || error instanceof PageCorruptError) return 'damaged';
    throw error;
  }
}

/** Marks on objects that are whole, or gone: a reader was mistaken, or died between its report and the repair. */
async function removeStaleMarks(options: ScrubOptions): Promise<void> {
  for await (const { key } of options.blobs.list(corruptMarksPrefix)) {
    const object = parseCorruptMarkKey(key);
    if (object === undefined || (await verify(options, object)) !== 'damaged') await options.blobs.delete(key);
  }
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  if (ms <= 0) return;
  try {
    await sleep(ms, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    throw signal?.aborted ? signal.reason : error;
  }
}
