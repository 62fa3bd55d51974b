// What every decoder offers. A decoder is pure: it reads tables through a ByteSource and answers with extents that say
// where guest bytes come from; it never reads guest data itself. The import pipeline fetches the file ranges that extents name
// (file-ranges.ts merges them into large reads) and unpacks them (unpack.ts) in worker threads, so extents are plain data that can
// be posted to one.
import type { ByteSource } from '../platform/byte-source.ts';

export type Format = 'raw' | 'qcow2' | 'vmdk' | 'vhd';

/**
 * How a stored unit is packed: raw deflate (RFC 1951), zlib (RFC 1950), or zstd frames (RFC 8878). After the stream anything may
 * follow, up to packedLength: it is never looked at.
 */
export type Codec = 'deflate-raw' | 'zlib' | 'zstd';

/**
 * A run of guest bytes [offset, offset + length). Offsets and lengths are bytes, multiples of 512 except where a file ends inside a
 * sector (a RAW file of odd size, a Qcow2 cut in its last cluster): there a raw extent ends and a zero extent follows.
 *   zero    reads as zeros, nothing stored (hole, zero cluster, unallocated, past the end of the file)
 *   raw     stored as it is at file offset `at`
 *   packed  bytes [skip, skip + length) of a unit that unpacks to `unitLength` bytes from the packedLength file bytes at `at`.
 *           packedLength is an upper bound: formats round it up, or do not store it. It is clipped to the end of the file.
 *           A unit may hold less than unitLength, down to minUnitLength (= unitLength when absent): the last grain of a VMDK
 *           whose disk ends inside it.
 */
export type Extent =
  | { kind: 'zero'; offset: number; length: number }
  | { kind: 'raw'; offset: number; length: number; at: number }
  | {
      kind: 'packed';
      offset: number;
      length: number;
      at: number;
      packedLength: number;
      codec: Codec;
      skip: number;
      unitLength: number;
      minUnitLength?: number;
    };

/** An extent that names bytes of the file. */
export type StoredExtent = Exclude<Extent, { kind: 'zero' }>;

export interface DiskImage {
  readonly format: Format;
  /** Size of the guest's disk in bytes: a multiple of 512, at least 512. */
  readonly sizeBytes: number;

  /**
   * The extents of [offset, offset + length), ascending, without gaps or overlaps, clipped to the range; neighbours that can be
   * one extent are one. Works through an empty terabyte in milliseconds. Every file range named lies inside the file. Tables are
   * read ahead as far as the range goes, several at once; leaving the loop early cancels what is under way. Safe to call
   * concurrently.
   * @throws RangeError when the range is not inside the disk; DomainError INVALID_ARGUMENT when a table is corrupt.
   */
  extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent>;
}

export interface OpenLimits {
  /** Largest guest size that is accepted, bytes. */
  maxSizeBytes: number;
  /**
   * Memory that the decoder may hold for tables, bytes; at least 1 MiB. 64 MiB serves every disk of 4 TiB with clusters from 4 KiB.
   * Each walk of `extents` that is under way may hold a quarter of it again.
   */
  maxTableBytes: number;
}

/** Answers with the decoder of whatever format the file has. Does not own `source`, which must outlive the image. */
export type OpenDiskImage = (source: ByteSource, limits: OpenLimits, signal?: AbortSignal) => Promise<DiskImage>;
