// Reading a connection into memory of our choice. Node's streams allocate 64 KiB for each read and hand it on: for megabytes of payload
// that is an allocation, a copy and an event for every piece. `net.Socket` can read into given buffers (its option `onread`), but
// only a socket that is made with the option, and a server's are not: so the connection's handle moves to a socket that is. The handle is
// not a documented property; where it is not what is expected here, the answer is undefined and the stream is read as usual.
import { type OnReadOpts, Socket, type SocketConstructorOpts } from 'node:net';

interface StreamHandle {
  reading?: boolean;
  readStop(): number;
}

export interface DirectReader {
  /** Where the next bytes are to go; at least one byte long. */
  target(): Uint8Array;
  /** `bytes` have come: the beginning of what target() answered last. They are only valid during the call. */
  received(bytes: Uint8Array): void;
}

/**
 * A new socket for the connection of `socket`, which is of no use any more. Nothing may be unread or unwritten in it.
 */
export function readDirectly(socket: Socket, reader: DirectReader): Socket | undefined {
  const holder = socket as unknown as { _handle: Partial<StreamHandle> | null };
  const handle = holder._handle;
  if (socket.readableLength > 0 || socket.writableLength > 0 || socket.destroyed || socket.readableEnded) return undefined;
  if (typeof handle?.readStop !== 'function' || !('useUserBuffer' in handle)) return undefined;
  handle.readStop();
  handle.reading = false;
  holder._handle = null;
  socket.destroy();
  let target = reader.target();
  const onread: OnReadOpts = {
    buffer: () => (target = reader.target()),
    callback: (length) => {
      reader.received(length === target.length ? target : target.subarray(0, length));
      return true;
    },
  };
  return new Socket({ handle, onread, allowHalfOpen: false } as unknown as SocketConstructorOpts);
}
