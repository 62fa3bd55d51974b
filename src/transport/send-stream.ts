// How the messages of a stream leave: headers first, then messages as fast as the client reads, then the status.
import { once } from 'node:events';
import type { ServerWritableStream } from '@grpc/grpc-js';
import { DomainError } from '../platform/errors.ts';
import type { GrpcCall } from './grpc-call.ts';

/**
 * Sends what `messages` yields until it ends, the client goes away, or the server stops. Never throws.
 * A generator that waits for something else than `call.signal` is left behind, not waited for.
 */
export async function sendStream(
  call: GrpcCall,
  stream: ServerWritableStream<Buffer, Buffer>,
  stopping: AbortSignal,
  messages: AsyncGenerator<Buffer>,
): Promise<void> {
  const stop = (): void => call.abort(new DomainError('UNAVAILABLE', 'The server is stopping. Call again.'));
  if (stopping.aborted) stop();
  else stopping.addEventListener('abort', stop, { once: true });
  try {
    for (;;) {
      const next = await untilAborted(messages.next(), call.signal);
      call.sendHeaders();
      if (next.done === true) break;
      if (!stream.write(next.value)) await once(stream, 'drain', { signal: call.signal });
    }
    call.succeeded();
    stream.end();
  } catch (error) {
    const failure = call.failed(error);
    messages.return(undefined).catch(() => {}); // Its end, good or bad, comes too late to matter.
    if (stream.cancelled) return;
    call.sendHeaders();
    stream.emit('error', failure);
  } finally {
    stopping.removeEventListener('abort', stop);
  }
}

/** The promise's outcome, or a rejection with the signal's reason when that comes first. */
function untilAborted<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason as Error);
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
