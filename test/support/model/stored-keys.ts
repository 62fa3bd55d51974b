// What lies in a blob folder, and what of it the rows of a database reach: read off the files alone, as docs/storage.md describes them.
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { objectKey } from '../../../src/storage/paths.ts';
import type { Address } from '../../../src/storage/address.ts';
import { rows } from '../slow-import.ts';

/** Keys of all chunks and pages, ordered. */
export async function storedKeys(blobDirectory: string): Promise<string[]> {
  const found: string[] = [];
  for (const kind of ['chunks', 'pages']) {
    const files = await readdir(path.join(blobDirectory, kind), { recursive: true, withFileTypes: true }).catch(() => []);
    for (const file of files) if (file.isFile()) found.push(`${kind}/${file.name.slice(0, 2)}/${file.name}`);
  }
  return found.sort();
}

/** Keys that the layers of all images, snapshots and disks need, ordered. @throws when a page of them is not there. */
export async function reachableKeys(databaseUrl: string, blobDirectory: string): Promise<string[]> {
  const roots = await rows<{ root: string }>(
    databaseUrl,
    `select layer_root as root from images union select layer_root from snapshots union select layer_root from disks`,
  );
  const reached = new Set<string>();
  for (const { root } of roots) if (root !== null) await reach(blobDirectory, root, reached);
  return [...reached].sort();
}

async function reach(blobDirectory: string, root: string, reached: Set<string>): Promise<void> {
  const page = await readPage(blobDirectory, root, reached);
  for (let at = 32; at + 40 <= page.length; at += 40) {
    const leaf = await readPage(blobDirectory, page.toString('hex', at + 8, at + 40), reached);
    for (let chunk = 144; chunk + 32 <= leaf.length; chunk += 32)
      reached.add(objectKey('chunks', leaf.toString('hex', chunk, chunk + 32) as Address));
  }
}

function readPage(blobDirectory: string, address: string, reached: Set<string>): Promise<Buffer> {
  const key = objectKey('pages', address as Address);
  reached.add(key);
  return readFile(path.join(blobDirectory, key));
}
