// Inflates into memory that the caller brings, with one zlib state for all units of a thread. node:zlib's synchronous functions make a
// state and an output buffer for every call: measured on 64 KiB clusters, that is a quarter to a third of their time and most of
// an import's garbage. The state is reached through node's own binding, which is no public interface: so it is looked at before it is used,
// and where it is not as expected the public functions do the work. (Node is pinned to one version; docs/decisions/007-inflate-in-place.md.)
import { type ZlibOptions, constants, createInflate, createInflateRaw, inflateRawSync, inflateSync } from 'node:zlib';

/**
 * Fills `target` from the start of `packed` and answers how many bytes it got; what follows the stream in `packed` is ignored.
 * @throws Error with a `code` of zlib (`Z_DATA_ERROR`, `Z_BUF_ERROR` when the stream is cut short) or ERR_BUFFER_TOO_LARGE when the stream
 * holds more than target.length bytes.
 */
export type Inflate = (packed: Uint8Array, target: Uint8Array) => number;

/** Node's lib/zlib.js: writes [out space left, input left] into the state's `_writeState`. */
interface Handle {
  onerror: (message: string, errno: number, code: string) => void;
  reset(): void;
  writeSync(
    flush: number,
    input: Uint8Array,
    inputOffset: number,
    inputLength: number,
    output: Uint8Array,
    outputOffset: number,
    outputLength: number,
  ): void;
}

interface Internals {
  _handle?: Partial<Handle>;
  _writeState?: Uint32Array;
}

/** One for each codec and thread: inflating is synchronous, so nobody finds it in use. */
export function createInflater(codec: 'deflate-raw' | 'zlib'): Inflate {
  const stream = codec === 'zlib' ? createInflate() : createInflateRaw();
  return inPlace(stream as unknown as Internals) ?? byCopy(codec);
}

function inPlace({ _handle: handle, _writeState: state }: Internals): Inflate | undefined {
  if (!isHandle(handle) || !(state instanceof Uint32Array) || state.length < 2) return undefined;
  const beyond = new Uint8Array(1);
  const nothing = new Uint8Array(1);
  let code: string | undefined;
  // oxlint-disable-next-line unicorn/prefer-add-event-listener -- the binding calls this property
  handle.onerror = (_message, _errno, raised) => (code = raised);
  const write = (input: Uint8Array, from: number, output: Uint8Array): void => {
    code = undefined;
    handle.writeSync(constants.Z_FINISH, input, from, input.length - from, output, 0, output.length);
  };
  return (packed, target) => {
    // The binding takes no empty input.
    if (packed.length === 0) throw withCode('Z_BUF_ERROR');
    handle.reset();
    write(packed, 0, target);
    const filled = target.length - state[0]!;
    if (filled === target.length && code === undefined) {
      // Full: either the stream ends here, or it goes on, or it is cut short. Asking for one byte more tells.
      const left = state[1]!;
      if (left > 0) write(packed, packed.length - left, beyond);
      else write(nothing, 0, beyond);
      if (state[0] === 0) throw withCode('ERR_BUFFER_TOO_LARGE');
      // A stream that has ended takes no further byte.
      if (left === 0 && state[1] === 0) throw withCode('Z_BUF_ERROR');
    }
    if (code !== undefined) throw withCode(code);
    return filled;
  };
}

const isHandle = (handle: Partial<Handle> | undefined): handle is Handle =>
  typeof handle?.writeSync === 'function' && typeof handle.reset === 'function';

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

const withCode = (code: string): Error => Object.assign(new Error(`inflate: ${code}`), { code });
