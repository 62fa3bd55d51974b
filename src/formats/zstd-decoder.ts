// Unpacks one whole zstd frame into memory that the caller brings, with one state for all units of a thread (zlib-handle.ts says why).
// A frame that tells its length, as every encoder does that has the data at hand, is unpacked straight to its place; others go through
// the public function.
import { constants, createZstdDecompress, zstdDecompressSync } from 'node:zlib';
import { withCode, type ZlibHandle, zlibHandle } from './zlib-handle.ts';

/**
 * Fills `target` from its start and answers how many bytes it got.
 * @param frame a data frame from its first byte to its last, as zstd-frame.ts measures it
 * @param contentBytes what its header says that it holds; at most target.length
 * @throws Error with a `code` of zstd (`ZSTD_error_…`), or ERR_BUFFER_TOO_LARGE when it holds more than target.length bytes.
 */
export type UnpackFrame = (frame: Uint8Array, contentBytes: number | undefined, target: Uint8Array) => number;

const newHandle = (): ZlibHandle | undefined => zlibHandle(createZstdDecompress(), constants.ZSTD_e_end);

/** One for each thread. */
export function createZstdDecoder(): UnpackFrame {
  const handle = newHandle();
  return handle === undefined ? byCopy : inPlace(handle);
}

function inPlace(first: ZlibHandle): UnpackFrame {
  let handle: ZlibHandle | undefined = first;
  return (frame, contentBytes, target) => {
    handle ??= newHandle();
    if (contentBytes === undefined || contentBytes === 0 || handle === undefined) return byCopy(frame, contentBytes, target);
    // What ends with the frame's end leaves a state that is ready for the next frame.
    const { roomLeft, inputLeft, code } = handle.write(frame, 0, target.subarray(0, contentBytes));
    if (code === undefined && roomLeft === 0 && inputLeft === 0) return contentBytes;
    // A state of zstd never forgets an error, not even when it is reset.
    handle = undefined;
    throw withCode(code ?? 'ZSTD_error_corruption_detected');
  };
}

/** The same by the public function. */
export const byCopy: UnpackFrame = (frame, _contentBytes, target) => {
  // One byte more than is wanted: a frame that has it is told from one that ends in time.
  const bytes = zstdDecompressSync(frame, { chunkSize: Math.max(64, target.length + 1), maxOutputLength: target.length });
  target.set(bytes);
  return bytes.length;
};
