import { open } from 'node:fs/promises';
import { assertRange, type ByteSource } from '../platform/byte-source.ts';

/** A file as a source; its length is taken now. Reads are safe to run at once. @throws what opening the file throws. */
export async function fileSource(path: string): Promise<ByteSource> {
  const file = await open(path, 'r');
  let sizeBytes: number;
  try {
    sizeBytes = (await file.stat()).size;
  } catch (error) {
    await file.close();
    throw error;
  }
  return {
    sizeBytes,
    async read(target, offset, signal) {
      assertRange(sizeBytes, offset, target.length);
      let filled = 0;
      while (filled < target.length) {
        signal?.throwIfAborted();
        const { bytesRead } = await file.read(target, filled, target.length - filled, offset + filled);
        if (bytesRead === 0) throw new Error(`a file of ${sizeBytes} bytes ends at ${offset + filled}`);
        filled += bytesRead;
      }
    },
    [Symbol.asyncDispose]: () => file.close(),
  };
}
