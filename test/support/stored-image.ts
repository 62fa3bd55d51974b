// Reads an image's guest bytes back out of a service's store: by its row's layer root, through layer and chunks, every byte verified.
import path from 'node:path';
import { Client } from 'pg';
import type { ByteSource } from '../../src/platform/byte-source.ts';
import { parsePageAddress } from '../../src/storage/address.ts';
import { layerSource } from '../../src/storage/layer-source.ts';
import { openStorage } from '../../src/storage/open.ts';

/** A source of the image's `size` bytes. `databaseUrl` and `blobDirectory` are the service's. */
export async function openStoredImage(databaseUrl: string, blobDirectory: string, imageId: string): Promise<ByteSource> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ size: string; layer_root: string }>(
      'select size, layer_root from images where id = $1',
      [imageId],
    );
    const row = rows[0];
    if (row === undefined) throw new Error(`there is no image ${imageId}`);
    const storage = await openStorage({ directory: blobDirectory });
    const layer = await storage.layers.open(parsePageAddress(row.layer_root));
    const source = layerSource(layer, storage.chunks, Number(row.size));
    return {
      sizeBytes: source.sizeBytes,
      read: (target, offset, signal) => source.read(target, offset, signal),
      [Symbol.asyncDispose]: () => storage[Symbol.asyncDispose](),
    };
  } finally {
    await client.end();
  }
}

export const blobDirectoryOf = (dataDirectory: string): string => path.join(dataDirectory, 'blobs');
