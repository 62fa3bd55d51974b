// The first and the last bytes of a file, where every container leaves its mark. They are read once, at open; decoders then find
// their headers in memory, which saves a round trip or two to a far server.
import { assertRange, type ByteSource, readBytes } from '../platform/byte-source.ts';

/** Reaches past the volume descriptors of ISO 9660 and UDF at 32 KiB, the farthest mark from the start. */
export const headBytes = 64 * 1024;
/** Reaches back past the three sectors that end a streamOptimized VMDK, the farthest mark from the end. */
export const tailBytes = 2048;

export interface FileEdges {
  /** The first headBytes, or the whole file when it is shorter. */
  head: Uint8Array;
  /** The last tailBytes, or the whole file when it is shorter. */
  tail: Uint8Array;
  sizeBytes: number;
}

export async function readEdges(source: ByteSource, signal?: AbortSignal): Promise<FileEdges> {
  const { sizeBytes } = source;
  if (sizeBytes <= headBytes + tailBytes) {
    const whole = await readBytes(source, 0, sizeBytes, signal);
    return { head: whole.subarray(0, headBytes), tail: whole.subarray(Math.max(0, sizeBytes - tailBytes)), sizeBytes };
  }
  const [head, tail] = await Promise.all([
    readBytes(source, 0, headBytes, signal),
    readBytes(source, sizeBytes - tailBytes, tailBytes, signal),
  ]);
  return { head, tail, sizeBytes };
}

/** The same bytes as `source`; reads inside the edges are answered from memory. Does not own `source`. */
export function edgedSource(source: ByteSource, { head, tail, sizeBytes }: FileEdges): ByteSource {
  const tailAt = sizeBytes - tail.length;
  return {
    sizeBytes,
    async read(target, offset, signal) {
      assertRange(sizeBytes, offset, target.length);
      const end = offset + target.length;
      if (end <= head.length) target.set(head.subarray(offset, end));
      else if (offset >= tailAt) target.set(tail.subarray(offset - tailAt, end - tailAt));
      else await source.read(target, offset, signal);
    },
    async [Symbol.asyncDispose]() {},
  };
}
