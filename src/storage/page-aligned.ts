// Memory that a driver may hand to the kernel without a copy in between (O_DIRECT wants the address, the offset and the length of a
// write to be multiples of the device's block, 4096 at most). JavaScript cannot see an address, so buffers made here are remembered.

/** Addresses, offsets and lengths of direct writes are multiples of it. */
export const pageBytes = 4096;

const alignedBuffers = new WeakSet<ArrayBufferLike>();

/**
 * Zeroed memory that starts at a page boundary: V8 takes resizable buffers from its page allocator, not from malloc. Where that ever
 * changes, direct writes are refused with EINVAL and the local driver goes on without them.
 */
export function allocatePageAligned(sizeBytes: number): Uint8Array {
  const buffer = new ArrayBuffer(sizeBytes, { maxByteLength: sizeBytes });
  alignedBuffers.add(buffer);
  return new Uint8Array(buffer, 0, sizeBytes);
}

/** Whether `bytes` is a view of memory made here that starts and ends at page boundaries. */
export const isPageAligned = (bytes: Uint8Array): boolean =>
  bytes.byteOffset % pageBytes === 0 && bytes.byteLength % pageBytes === 0 && alignedBuffers.has(bytes.buffer);
