// Keys of a blob store. They are a subset of what every file system and every S3 server keeps apart: lower case only, so that a
// case-insensitive file system does not merge two; no hidden or parent folders; short.
import type { BlobRange } from './blob-store.ts';

const longestKey = 200;
const segment = /^[a-z0-9][a-z0-9._-]*$/;

export const isBlobKey = (key: string): boolean => key.length <= longestKey && key.split('/').every(isKeySegment);

export const isKeySegment = (text: string): boolean => segment.test(text);

/** @throws RangeError for a key outside of the contract: keys are made by paths.ts, so a wrong one is our own mistake. */
export function assertBlobKey(key: string): void {
  if (!isBlobKey(key)) throw new RangeError(`not a key of a blob store: ${JSON.stringify(key.slice(0, 250))}`);
}

/** A prefix to list by: the beginning of a key, or nothing. @throws RangeError when no key can start with it. */
export function assertBlobPrefix(prefix: string): void {
  if (prefix !== '') assertBlobKey(prefix.endsWith('/') ? prefix.slice(0, -1) : prefix);
}

/** @throws RangeError unless the range lies in an object of `sizeBytes`. */
export function assertBlobRange(key: string, range: BlobRange, sizeBytes: number): void {
  const { offset, length } = range;
  const fits = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (!fits || offset + length > sizeBytes)
    throw new RangeError(`${key} holds ${sizeBytes} bytes; asked for ${length} at ${offset}`);
}
