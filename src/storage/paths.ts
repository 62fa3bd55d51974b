// What a store holds, under which key. With the local driver the tree is one of folders and files; with S3 the same keys lie below
// a prefix of the bucket.
//
//   format.json                          what this store is: hash, sizes, id; written once, before anything else
//   chunks/ab/abcdef…                    4 MiB of guest bytes; the name is the chunk's address in hex, the folder its first two digits
//   pages/ab/abcdef…                     a page of a layer's tree, named alike
//   corrupt/chunks/ab/abcdef…            a mark: a reader found this object damaged; the next put of the address writes it anew
//   corrupt/pages/ab/abcdef…
//   +tmp/                                local driver only: writes under way; no key, never listed
//
// The folder digits spread a million chunks over 256 folders of 4,000, and S3 servers over their partitions.
import { type Address, type ChunkAddress, type PageAddress, isAddress } from './address.ts';

export const formatKey = 'format.json';

/** The kinds of content-addressed objects, by the name of their folder. */
export type ObjectKind = 'chunks' | 'pages';
export const objectKinds: readonly ObjectKind[] = ['chunks', 'pages'];

export const chunkKey = (address: ChunkAddress): string => objectKey('chunks', address);

export const pageKey = (address: PageAddress): string => objectKey('pages', address);

export const objectKey = (kind: ObjectKind, address: Address): string => `${kind}/${address.slice(0, 2)}/${address}`;

/** Objects of a kind whose addresses start with these two hex digits, or all of them. */
export const objectPrefix = (kind: ObjectKind, digits?: string): string =>
  digits === undefined ? `${kind}/` : `${kind}/${digits}/`;

/** Where chunks lie: made with the store, since making each when its first chunk comes costs a sync of its own. */
export const chunkFolders: readonly string[] = Array.from(
  { length: 256 },
  (_, digits) => `chunks/${digits.toString(16).padStart(2, '0')}`,
);

/** The inverse of objectKey; undefined for any other key. */
export function parseObjectKey(key: string): { kind: ObjectKind; address: Address } | undefined {
  const [kind, folder, address, ...rest] = key.split('/');
  if (kind === undefined || folder === undefined || address === undefined || rest.length > 0) return undefined;
  if (kind !== 'chunks' && kind !== 'pages') return undefined;
  if (!isAddress(address) || !address.startsWith(folder) || folder.length !== 2) return undefined;
  return { kind, address: address as Address };
}

const marksFolder = 'corrupt/';

export const corruptMarkKey = (object: string): string => marksFolder + object;
export const corruptMarksPrefix = marksFolder;

/** The key of the object that a mark is about; undefined when the key is no mark. */
export function parseCorruptMarkKey(key: string): string | undefined {
  const object = key.startsWith(marksFolder) ? key.slice(marksFolder.length) : undefined;
  return object !== undefined && parseObjectKey(object) !== undefined ? object : undefined;
}
