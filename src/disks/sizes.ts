// What sizes a disk can have, bytes. Source: facts, section 1.3.
import type { DiskType } from '../catalog/disk-types.ts';
import { invalidArgument } from '../platform/errors.ts';

const TiB = 1024 ** 4;

export const defaultBlockBytes = 4096;
const maxBlockBytes = 128 * 1024;

/** The largest disk for a size of its blocks: 8 TiB for 4 KiB, twice as much for each doubling. */
export const maxDiskBytes = (blockBytes: number): number => 8 * TiB * (blockBytes / defaultBlockBytes);

/** CreateDiskRequest.block_size; 0 means 4096. @throws DomainError INVALID_ARGUMENT. */
export function parseBlockSize(requested: bigint): number {
  if (requested === 0n) return defaultBlockBytes;
  const blockBytes = Number(requested);
  const isPowerOfTwo = Number.isInteger(Math.log2(blockBytes));
  if (!isPowerOfTwo || blockBytes < defaultBlockBytes || blockBytes > maxBlockBytes) {
    throw invalidArgument('block_size', `must be a power of two from ${defaultBlockBytes} to ${maxBlockBytes}, not ${requested}`);
  }
  return blockBytes;
}

/** @throws DomainError INVALID_ARGUMENT on `size` when a disk of that type and block size cannot be `sizeBytes` large. */
export function assertSizeFits(sizeBytes: number, { id, sizeStepBytes }: DiskType, blockBytes: number): void {
  if (sizeBytes % sizeStepBytes !== 0) {
    throw invalidArgument('size', `must be a multiple of ${sizeStepBytes} for ${id}, not ${sizeBytes}`);
  }
  const most = maxDiskBytes(blockBytes);
  if (sizeBytes > most) {
    throw invalidArgument('size', `is ${sizeBytes}; with a block_size of ${blockBytes} a disk has at most ${most} bytes`);
  }
}

/** @throws DomainError INVALID_ARGUMENT on `size` when what the disk is made of does not fit into it. */
export function assertHolds(sizeBytes: number, source: string, leastBytes: number): void {
  if (sizeBytes < leastBytes) throw invalidArgument('size', `must be at least ${leastBytes} for ${source}, not ${sizeBytes}`);
}
