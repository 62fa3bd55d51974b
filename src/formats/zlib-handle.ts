// One state of node's own zlib binding, used again and again with memory that the caller brings. node:zlib's synchronous functions make a state and
// an output buffer for every call: a quarter to a third of their time on units of 64 KiB, and most of an import's garbage. The
// binding is no public interface: it is looked at before it is used, and where it is not as expected the public functions do the work.
// (Node is pinned to one version; docs/decisions/007-inflate-in-place.md.)

/** Node's lib/zlib.js: writes [out space left, input left] into the stream's `_writeState`. */
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

export interface Step {
  /** Bytes of the output that were left empty. */
  roomLeft: number;
  /** Bytes of the input that were not taken. */
  inputLeft: number;
  /** What the library complains of: `Z_DATA_ERROR`, `ZSTD_error_corruption_detected`. The state has to be reset then. */
  code: string | undefined;
}

export interface ZlibHandle {
  /** Decompresses `input` from `from` on into `output`. The binding takes no empty input. */
  write(input: Uint8Array, from: number, output: Uint8Array): Step;
  reset(): void;
}

/** @param stream what a `create…` function of node:zlib made; it belongs to the handle then. @param flush what every write is told */
export function zlibHandle(stream: object, flush: number): ZlibHandle | undefined {
  const { _handle: handle, _writeState: state } = stream as Internals;
  if (!isHandle(handle) || !(state instanceof Uint32Array) || state.length < 2) return undefined;
  let code: string | undefined;
  // oxlint-disable-next-line unicorn/prefer-add-event-listener -- the binding calls this property
  handle.onerror = (_message, _errno, raised) => (code = raised);
  return {
    write(input, from, output) {
      code = undefined;
      handle.writeSync(flush, input, from, input.length - from, output, 0, output.length);
      return { roomLeft: state[0]!, inputLeft: state[1]!, code };
    },
    reset: () => handle.reset(),
  };
}

const isHandle = (handle: Partial<Handle> | undefined): handle is Handle =>
  typeof handle?.writeSync === 'function' && typeof handle.reset === 'function';

export const withCode = (code: string): Error => Object.assign(new Error(`decompression: ${code}`), { code });
