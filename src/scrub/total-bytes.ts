import type { BlobStore } from '../storage/blob-store.ts';
import { objectKinds, objectPrefix } from '../storage/paths.ts';

/** What a pass will read, about: chunks and pages that are stored now. @throws TransientError when the store is away. */
export async function totalBytes(blobs: BlobStore, signal?: AbortSignal): Promise<number> {
  let bytes = 0;
  for (const kind of objectKinds)
    for await (const { sizeBytes } of blobs.list(objectPrefix(kind))) {
      signal?.throwIfAborted();
      bytes += sizeBytes;
    }
  return bytes;
}
