// Memory that a driver may hand to the kernel without a copy in between (O_DIRECT wants the address, the offset and the length of a
// write to be multiples of the device's block, 4096 at most). JavaScript cannot see an address, so memory made here is remembered.
//
// It comes from malloc, in slabs that are larger than any that malloc keeps for itself: where the operator lets malloc ask for huge pages
// (GLIBC_TUNABLES, as `npm start` does), a chunk lies in three pieces of memory instead of a thousand, and disks take it in a third less
// time (docs/decisions/003-layout.md).

/** Addresses, offsets and lengths of direct writes are multiples of it. */
export const pageBytes = 4096;

/** More than 32 MiB: glibc gives such a block a mapping of its own (malloc(3), M_MMAP_THRESHOLD), unless as much lies free in one piece. */
const slabBytes = 40 * 1024 * 1024;
/** Where memory begins in such a mapping: behind the header of the block, two words. Where it is otherwise, direct writes fail with EINVAL. */
const blockHeaderBytes = 16;

const slabs = new WeakSet<ArrayBufferLike>();

/** Held by who uses it: a slab goes when all of its parts have gone. */
let newest: { slab: WeakRef<ArrayBuffer>; next: number } | undefined;

/** Zeroed memory that starts at a page boundary; no more than 32 MiB. */
export function allocatePageAligned(sizeBytes: number): Uint8Array {
  const length = Math.ceil(sizeBytes / pageBytes) * pageBytes;
  let slab = newest?.slab.deref();
  if (slab === undefined || newest!.next + length > slab.byteLength) {
    slab = new ArrayBuffer(slabBytes);
    slabs.add(slab);
    newest = { slab: new WeakRef(slab), next: pageBytes - blockHeaderBytes };
  }
  const bytes = new Uint8Array(slab, newest!.next, sizeBytes);
  newest!.next += length;
  return bytes;
}

/** The system has refused a direct write of `bytes`: they do not lie as it was believed, and nothing beside them does. */
export function forgetAligned(bytes: Uint8Array): void {
  slabs.delete(bytes.buffer);
  if (newest?.slab.deref() === bytes.buffer) newest = undefined;
}

/** Whether `bytes` is a view of memory made here that starts and ends at page boundaries. */
export const isPageAligned = (bytes: Uint8Array): boolean =>
  (bytes.byteOffset + blockHeaderBytes) % pageBytes === 0 && bytes.byteLength % pageBytes === 0 && slabs.has(bytes.buffer);
