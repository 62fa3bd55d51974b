// Reads the guest bytes of an image, a disk or a snapshot back out of a service's store: by its row's layer root, through layer and
// chunks, every byte verified.
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { Client } from 'pg';
import type { ByteSource } from '../../src/platform/byte-source.ts';
import { parsePageAddress } from '../../src/storage/address.ts';
import { layerSource } from '../../src/storage/layer-source.ts';
import { openStorage } from '../../src/storage/open.ts';

const sizeColumns = { images: 'size', disks: 'size', snapshots: 'disk_size' } as const;

/** A source of its bytes. `databaseUrl` and `blobDirectory` are the service's. */
export async function openStored(
  databaseUrl: string,
  blobDirectory: string,
  table: keyof typeof sizeColumns,
  id: string,
): Promise<ByteSource> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ size: string; layer_root: string | null }>(
      `select ${sizeColumns[table]} as size, layer_root from ${table} where id = $1`,
      [id],
    );
    const row = rows[0];
    if (row === undefined) throw new Error(`there is no ${id} in ${table}`);
    if (row.layer_root === null) throw new Error(`${id} has no layer`);
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

export const openStoredImage = (databaseUrl: string, blobDirectory: string, imageId: string): Promise<ByteSource> =>
  openStored(databaseUrl, blobDirectory, 'images', imageId);

export const blobDirectoryOf = (dataDirectory: string): string => path.join(dataDirectory, 'blobs');

/** Keys of all chunks and pages in a store, sorted. */
export async function storedObjects(blobDirectory: string): Promise<string[]> {
  const found: string[] = [];
  for (const kind of ['chunks', 'pages']) {
    const files = await readdir(path.join(blobDirectory, kind), { recursive: true, withFileTypes: true }).catch(() => []);
    for (const file of files) if (file.isFile()) found.push(`${kind}/${file.name}`);
  }
  return found.sort();
}
