// The hashes that a store may be made with. Which one is written in the store's format file and in every chunk; numbers and names
// are for ever. Choice and measurements: docs/decisions/002-hash.md.
import { hash } from 'node:crypto';

export interface HashAlgorithm {
  readonly name: string;
  /** In the header of every chunk. */
  readonly id: number;
  /** 32 bytes. Synchronous. */
  digest(bytes: Uint8Array): Buffer;
}

export const sha256: HashAlgorithm = { name: 'sha256', id: 1, digest: (bytes) => hash('sha256', bytes, 'buffer') };

export const hashAlgorithms: readonly HashAlgorithm[] = [sha256];
