// Reads everything that a layer needs again, past every cache, and compares it with its address: what an optimized image promises before
// it is READY, and what nobody else asks for, since ordinary reads verify what they read and nothing more.
import { AddressSet } from './address-set.ts';
import type { PageAddress } from './address.ts';
import type { Reachable } from './layers.ts';
import type { Storage } from './open.ts';
import { settleAll } from '../platform/until-aborted.ts';

/** Chunks at once, 4 MiB of memory each. */
const atOnce = 2;

/** Objects are counted in the order of the layer, which is always the same: `objects` tells a later call where to go on. */
export interface LayerProgress {
  objects: number;
  /** Chunks among them; in the end the layer's chunkCount. */
  chunks: number;
}

export interface VerifyLayerOptions {
  /** What an earlier call has verified. */
  from?: LayerProgress | undefined;
  onProgress?: ((progress: LayerProgress) => Promise<void> | void) | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Resolves when every page and chunk of the layer was found whole.
 * @throws DomainError DATA_LOSS (ChunkCorruptError, PageCorruptError) at the first that is damaged or missing; TransientError when the
 * store is away; signal.reason.
 */
export async function verifyLayer(
  storage: Pick<Storage, 'layers' | 'pages' | 'verifyChunk'>,
  root: PageAddress,
  { from, onProgress, signal }: VerifyLayerOptions = {},
): Promise<void> {
  const seen = new AddressSet();
  const progress = { objects: 0, chunks: 0 };
  let batch: Reachable[] = [];
  const verifyBatch = async () => {
    await settleAll(batch.map((object) => verify(storage, object, signal)));
    batch = [];
    await onProgress?.({ ...progress });
  };
  for await (const object of storage.layers.reachable(root, signal === undefined ? {} : { signal })) {
    progress.objects += 1;
    if (object.kind === 'chunks') progress.chunks += 1;
    if (progress.objects <= (from?.objects ?? 0) || !seen.add(object.address)) continue;
    batch.push(object);
    if (batch.length >= atOnce) await verifyBatch();
  }
  await verifyBatch();
}

async function verify(
  { pages, verifyChunk }: Pick<Storage, 'pages' | 'verifyChunk'>,
  { kind, address }: Reachable,
  signal: AbortSignal | undefined,
): Promise<void> {
  signal?.throwIfAborted();
  if (kind === 'pages') await pages.verify(address, true);
  else await verifyChunk(address, signal, true);
}
