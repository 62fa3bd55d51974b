// Images of any size at no cost, for tests and benches: while a service is stopped, layers over a few stored chunks are put into its store,
// and its images' rows are changed to them. They read as the chunks say: chunk i of the guest is filled with one byte, `fillOf(i)`.
import { Client } from 'pg';
import { startEmbeddedPostgres } from '../../src/db/embedded/embedded-postgres.ts';
import type { PageAddress } from '../../src/storage/address.ts';
import { openStorage, type Storage } from '../../src/storage/open.ts';
import { chunkBytes } from '../../src/storage/sizes.ts';
import { blobDirectoryOf } from './stored-image.ts';

const fills = 16;

/** Never 0, and no two leaf pages of a layer are equal. */
export const fillOf = (chunkIndex: number): number =>
  1 + ((chunkIndex + Math.floor(chunkIndex / 1024) + (chunkIndex % 1024 === 7 ? Math.floor(chunkIndex / 16384) : 0)) % fills);

/** @param dataDirectory of a service that is stopped. @param sizes new size in bytes, a multiple of 4 MiB, by image id. */
export async function makeUpImages(dataDirectory: string, sizes: ReadonlyMap<string, number>): Promise<void> {
  await using postgres = await startEmbeddedPostgres({ dataDir: dataDirectory });
  await using storage = await openStorage({ directory: blobDirectoryOf(dataDirectory) });
  const client = new Client({ connectionString: postgres.url });
  await client.connect();
  try {
    for (const [id, sizeBytes] of sizes) {
      const root = await makeUpLayer(storage, sizeBytes / chunkBytes);
      const { rowCount } = await client.query(
        'update images set size = $2, min_disk_size = $2, storage_size = $2, layer_root = $3 where id = $1',
        [id, sizeBytes, root],
      );
      if (rowCount !== 1) throw new Error(`there is no image ${id}`);
    }
  } finally {
    await client.end();
  }
}

async function makeUpLayer(storage: Storage, chunkCount: number): Promise<PageAddress> {
  const addresses = await Promise.all(
    Array.from({ length: fills }, (_, index) => storage.chunks.store(Buffer.alloc(chunkBytes, index + 1))),
  );
  const builder = await storage.layers.build();
  for (let index = 0; index < chunkCount; index += 1) {
    builder.set(index, addresses[fillOf(index) - 1]);
    if (index % 4096 === 0) await builder.drained();
  }
  return builder.flush();
}
