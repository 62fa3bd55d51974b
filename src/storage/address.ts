// Addresses: the hash of what an object holds, 64 lower-case hex digits. Chunks and pages are hashed under different prefixes, so no
// string is an address of both; the brands keep the two apart where TypeScript looks.
declare const kind: unique symbol;

export type ChunkAddress = string & { readonly [kind]: 'chunk' };
export type PageAddress = string & { readonly [kind]: 'page' };
export type Address = ChunkAddress | PageAddress;

export const addressBytes = 32;

const pattern = /^[0-9a-f]{64}$/;

/** Turns text from outside (a database row, a message between threads) into an address. @throws RangeError when it is not one. */
export function parseChunkAddress(text: string): ChunkAddress {
  return checked(text) as ChunkAddress;
}

/** As parseChunkAddress; the root of a layer is a page address. */
export function parsePageAddress(text: string): PageAddress {
  return checked(text) as PageAddress;
}

export const isAddress = (text: string): boolean => pattern.test(text);

function checked(text: string): string {
  if (!isAddress(text)) throw new RangeError(`not an address: ${JSON.stringify(text.slice(0, 80))}`);
  return text;
}
