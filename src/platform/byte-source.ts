/**
 * Bytes that can be read at any offset: a file, a range of a web resource, a layer. The one interface that formats, sources,
 * storage and nbd share.
 */
export interface ByteSource extends AsyncDisposable {
  /** Length in bytes, fixed for the life of the source. */
  readonly sizeBytes: number;

  /**
   * Fills the whole of `target` with the bytes from `offset` on. Safe to call concurrently.
   * @throws RangeError when [offset, offset + target.length) is not inside the source: the caller's mistake, check before.
   * @throws DomainError when the bytes can never be had (changed, gone, corrupt); TransientError when a later try may work.
   */
  read(target: Uint8Array, offset: number, signal?: AbortSignal): Promise<void>;
}

/** Throws unless [offset, offset + length) lies inside a source of `sizeBytes`; numbers are safe integers. */
export function assertRange(sizeBytes: number, offset: number, length: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0 || length < 0 || offset + length > sizeBytes) {
    throw new RangeError(`read of ${length} bytes at ${offset} is outside of ${sizeBytes} bytes`);
  }
}

/** Reads `length` bytes at `offset` into a new buffer. The caller has bounded `length`. */
export async function readBytes(source: ByteSource, offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
  assertRange(source.sizeBytes, offset, length);
  const target = new Uint8Array(length);
  await source.read(target, offset, signal);
  return target;
}

/** A source over bytes in memory: tests, heads and tails of files. */
export function memorySource(bytes: Uint8Array): ByteSource {
  return {
    sizeBytes: bytes.length,
    async read(target, offset) {
      assertRange(bytes.length, offset, target.length);
      target.set(bytes.subarray(offset, offset + target.length));
    },
    async [Symbol.asyncDispose]() {},
  };
}
