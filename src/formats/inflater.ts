// Inflates into memory that the caller brings, with one zlib state for all units of a thread (zlib-handle.ts says why).
import { type ZlibOptions, constants, createInflate, createInflateRaw, inflateRawSync, inflateSync } from 'node:zlib';
import { withCode, type ZlibHandle, zlibHandle } from './zlib-handle.ts';

/**
 * Fills `target` from the start of `packed` and answers how many bytes it got; what follows the stream in `packed` is ignored.
 * @throws Error with a `code` of zlib (`Z_DATA_ERROR`, `Z_BUF_ERROR` when the stream is cut short) or ERR_BUFFER_TOO_LARGE when the stream
 * holds more than target.length bytes.
 */
export type Inflate = (packed: Uint8Array, target: Uint8Array) => number;

/** One for each codec and thread: inflating is synchronous, so nobody finds it in use. */
export function createInflater(codec: 'deflate-raw' | 'zlib'): Inflate {
  const handle = zlibHandle(codec === 'zlib' ? createInflate() : createInflateRaw(), constants.Z_FINISH);
  return handle === undefined ? byCopy(codec) : inPlace(handle);
}

function inPlace(handle: ZlibHandle): Inflate {
  const beyond = new Uint8Array(1);
  const nothing = new Uint8Array(1);
  return (packed, target) => {
    if (packed.length === 0) throw withCode('Z_BUF_ERROR');
    handle.reset();
    let step = handle.write(packed, 0, target);
    const filled = target.length - step.roomLeft;
    if (filled === target.length && step.code === undefined) {
      // Full: either the stream ends here, or it goes on, or it is cut short. Asking for one byte more tells.
      const left = step.inputLeft;
      step = left > 0 ? handle.write(packed, packed.length - left, beyond) : handle.write(nothing, 0, beyond);
      if (step.roomLeft === 0) throw withCode('ERR_BUFFER_TOO_LARGE');
      // A stream that has ended takes no further byte.
      if (left === 0 && step.inputLeft === 0) throw withCode('Z_BUF_ERROR');
    }
    if (step.code !== undefined) throw withCode(step.code);
    return filled;
  };
}

/** The same by public functions. One byte more than is wanted: a stream that has it is told from one that ends in time. */
export function byCopy(codec: 'deflate-raw' | 'zlib'): Inflate {
  const inflate = codec === 'zlib' ? inflateSync : inflateRawSync;
  return (packed, target) => {
    const options: ZlibOptions = { chunkSize: Math.max(64, target.length + 1), maxOutputLength: target.length };
    const bytes = inflate(packed, options);
    target.set(bytes);
    return bytes.length;
  };
}
