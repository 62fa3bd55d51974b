// A process that puts objects until it is killed, and prints the key of each when its put has resolved. Keys tell what the bytes are.
import { fileURLToPath } from 'node:url';
import { openLocalBlobStore } from '../../src/storage/drivers/local.ts';
import { allocatePageAligned } from '../../src/storage/page-aligned.ts';

/** The bytes of the object that is named `…/<number>`. Sizes from 4 KiB to 3 MiB, every third one as a direct write wants it. */
export function bytesOf(key: string): Uint8Array {
  const number = Number(key.slice(key.lastIndexOf('/') + 1));
  const sizeBytes = number % 3 === 0 ? 4096 * (1 + (number % 700)) : 5000 + ((number * 7919) % 3_000_000);
  const bytes = number % 3 === 0 ? allocatePageAligned(sizeBytes) : new Uint8Array(sizeBytes);
  new Uint32Array(bytes.buffer, bytes.byteOffset, Math.floor(sizeBytes / 4)).fill(Math.imul(number + 1, 2654435761));
  return bytes;
}

async function writeUntilKilled(directory: string, first: number): Promise<void> {
  const store = await openLocalBlobStore({ directory });
  let number = first;
  await Promise.all(
    [0, 1, 2, 3, 4].map(async () => {
      for (;;) {
        const key = `written/${String(number % 7)}/${number++}`;
        await store.put(key, [bytesOf(key)], { replace: number % 5 === 0 });
        process.stdout.write(`${key}\n`);
      }
    }),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await writeUntilKilled(process.argv[2]!, Number(process.argv[3]));
