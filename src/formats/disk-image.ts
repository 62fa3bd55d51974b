// What every decoder offers. A decoder is pure: it reads tables through a ByteSource and answers with extents that say
// where guest bytes come from; it never reads guest data itself. The import pipeline fetches the file ranges that extents name
// and unpacks them with `unpack` (unpack.ts) in worker threads, so extents are plain data that can be posted to one.
import type { ByteSource } from '../platform/byte-source.ts';

export type Format = 'raw' | 'qcow2' | 'vmdk' | 'vhd';

/** How a stored unit is packed: raw deflate (RFC 1951), zlib (RFC 1950) or one zstd frame followed by padding. */
export type Codec = 'deflate-raw' | 'zlib' | 'zstd';

/**
 * A run of guest bytes [offset, offset + length). Offsets and lengths are bytes, multiples of 512 except at the end of a RAW file.
 *   zero    reads as zeros, nothing stored (hole, zero cluster, unallocated)
 *   raw     stored as it is at file offset `at`
 *   packed  bytes [skip, skip + length) of a unit that unpacks to `unitLength` bytes from `packedLength` file bytes at `at`.
 *           Qcow2 rounds packedLength up to sectors: the stream may end before it, and it may reach past the end of the file
 *           only as far as the decoder has already clipped it.
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
    };

export interface DiskImage {
  readonly format: Format;
  /** Size of the guest's disk in bytes. */
  readonly sizeBytes: number;

  /**
   * The extents of [offset, offset + length), ascending, without gaps or overlaps, clipped to the range; neighbours that can be
   * one extent are one. Works through an empty terabyte in milliseconds. Every file range named lies inside the file.
   * @throws DomainError INVALID_ARGUMENT when a table is corrupt.
   */
  extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent>;
}

export interface OpenLimits {
  /** Largest guest size that is accepted, bytes. */
  maxSizeBytes: number;
  /** Memory that the decoder may hold for tables, bytes. */
  maxTableBytes: number;
}

export type OpenDiskImage = (source: ByteSource, limits: OpenLimits, signal?: AbortSignal) => Promise<DiskImage>;
