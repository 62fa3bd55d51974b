// What a store is, written once into format.json before anything else and read by every process that opens it. A process that does not
// understand all of it refuses to start, rather than write what others cannot read or read what it takes for something else.
import { randomUUID } from 'node:crypto';
import { TransientError } from '../platform/errors.ts';
import { BlobNotFoundError, type BlobStore } from './blob-store.ts';
import { type HashAlgorithm, hashAlgorithms, sha256 } from './hash-algorithm.ts';
import { formatKey } from './paths.ts';
import { blockBytes, chunkBytes, chunksPerLeaf } from './sizes.ts';

export interface StoreFormat {
  /** Random, so that a database notices when it is given another store. */
  readonly storeId: string;
  readonly hash: HashAlgorithm;
}

/** The store is not one that this release can use. The message says why and what to do. */
export class StoreFormatError extends Error {
  override readonly name = 'StoreFormatError';
}

const kind = 'obraz blob store';
const layout = 1;
const largestFileBytes = 64 * 1024;

/**
 * Reads the format of a store, or makes an empty one into a store. Of processes that do so at once the first wins, and all answer
 * the same. @throws StoreFormatError
 */
export async function ensureFormat(blobs: BlobStore): Promise<StoreFormat> {
  const known = await readFormat(blobs);
  if (known !== undefined) return known;
  if (await holdsObjects(blobs)) {
    // Another process may have made the store since we looked.
    const made = await readFormat(blobs);
    if (made !== undefined) return made;
    throw new StoreFormatError(
      `the blob store holds objects but no ${formatKey}: restore that file from a backup, or use an empty folder`,
    );
  }
  const text = JSON.stringify(
    {
      kind,
      layout,
      storeId: randomUUID(),
      hash: sha256.name,
      chunkBytes,
      blockBytes,
      chunksPerLeaf,
      requires: [],
      createdAt: new Date().toISOString(),
    },
    undefined,
    2,
  );
  await blobs.put(formatKey, [Buffer.from(`${text}\n`)]);
  const made = await readFormat(blobs);
  if (made === undefined) throw new StoreFormatError(`${formatKey} was removed while the store was being made`);
  return made;
}

/** Of a store that was opened before. @throws TransientError when it is away, or another one is in its place. */
export async function expectFormat(blobs: BlobStore, storeId: string): Promise<StoreFormat> {
  const format = await readFormat(blobs);
  if (format?.storeId === storeId) return format;
  const what = format === undefined ? `has no ${formatKey}` : `is another one (${format.storeId})`;
  throw new TransientError(`the blob store ${storeId} is away: what is in its place ${what}`);
}

async function readFormat(blobs: BlobStore): Promise<StoreFormat | undefined> {
  const stat = await blobs.stat(formatKey);
  if (stat === undefined) return undefined;
  if (stat.sizeBytes > largestFileBytes) throw new StoreFormatError(`${formatKey} is no format file: it is too long`);
  try {
    const bytes = await blobs.get(formatKey, { offset: 0, length: stat.sizeBytes }, { fresh: true });
    return parseFormat(Buffer.from(bytes).toString('utf8'));
  } catch (error) {
    if (error instanceof BlobNotFoundError) return undefined;
    throw error;
  }
}

async function holdsObjects(blobs: BlobStore): Promise<boolean> {
  for await (const { key } of blobs.list('')) if (key !== formatKey) return true;
  return false;
}

/** @throws StoreFormatError */
export function parseFormat(text: string): StoreFormat {
  const fields = parseObject(text);
  if (fields['kind'] !== kind) throw new StoreFormatError(`${formatKey} is not the format file of an Obraz blob store`);
  const needs = Array.isArray(fields['requires']) ? fields['requires'].map(String) : ['a list of requirements'];
  if (fields['layout'] !== layout || needs.length > 0) {
    const what = [`layout ${String(fields['layout'])}`, ...needs].join(', ');
    throw new StoreFormatError(`the blob store needs ${what}; this release knows layout ${layout}: use a newer release`);
  }
  for (const [name, value] of Object.entries({ chunkBytes, blockBytes, chunksPerLeaf })) {
    if (fields[name] !== value)
      throw new StoreFormatError(`the blob store has ${name} ${String(fields[name])}; this release knows ${value}`);
  }
  const hash = hashAlgorithms.find(({ name }) => name === fields['hash']);
  if (hash === undefined) {
    const names = hashAlgorithms.map(({ name }) => name).join(', ');
    throw new StoreFormatError(`the blob store is hashed with ${String(fields['hash'])}; this release can compute ${names}`);
  }
  const storeId = fields['storeId'];
  if (typeof storeId !== 'string' || !/^[0-9a-f-]{36}$/.test(storeId))
    throw new StoreFormatError(`${formatKey} has no storeId: restore it from a backup`);
  return { storeId, hash };
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw new StoreFormatError(`${formatKey} is damaged: restore it from a backup`);
}
