// A way through the operator's HTTP proxy: CONNECT (RFC 9110 section 9.3.6) to the checked address, not to the name, so that the proxy
// resolves nothing that the policy has not seen.
import { connect, type Socket } from 'node:net';
import type { Proxy } from '../proxy-rules.ts';
import { parseResponseHead } from './response-head.ts';
import { WireError } from './wire-error.ts';

const maxHeadBytes = 65_536;

export interface TunnelOptions {
  address: string;
  port: number;
  withinMs: number;
  signal: AbortSignal | undefined;
}

/**
 * Answers a paused socket whose next byte is the target's.
 * @throws WireError proxy when the proxy is away or refuses, unreachable when it says that the target is; signal.reason.
 */
export function openTunnel(proxy: Proxy, { address, port, withinMs, signal }: TunnelOptions): Promise<Socket> {
  const socket = connect({ host: proxy.hostname, port: proxy.port, noDelay: true, keepAlive: true });
  return new Promise((resolve, reject) => {
    let head = '';
    const settle = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      socket.off('data', onData).off('error', onEnd).off('close', onEnd);
    };
    const fail = (error: Error) => {
      settle();
      // An error that comes after this one has nobody to tell.
      socket.on('error', () => {}).destroy();
      reject(error);
    };
    const onAbort = () => fail(signal!.reason as Error);
    const onEnd = () => fail(new WireError('proxy', 'it did not answer'));
    const onData = (bytes: Buffer) => {
      head += bytes.toString('latin1');
      const end = head.indexOf('\r\n\r\n');
      if (end === -1 && head.length < maxHeadBytes) return;
      try {
        requireTunnel(head, end);
      } catch (error) {
        fail(error as Error);
        return;
      }
      settle();
      socket.pause();
      resolve(socket);
    };
    const timer = setTimeout(onEnd, withinMs);
    socket.on('data', onData).once('error', onEnd).once('close', onEnd);
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    const place = address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
    const authorization = proxy.authorization === undefined ? '' : `proxy-authorization: ${proxy.authorization}\r\n`;
    socket.write(`CONNECT ${place} HTTP/1.1\r\nhost: ${place}\r\n${authorization}\r\n`, 'latin1');
  });
}

function requireTunnel(head: string, end: number): void {
  if (end === -1) throw new WireError('proxy', 'its answer is too long');
  const { status } = parseProxyAnswer(head.slice(0, end + 4));
  // What a proxy says of a target that it cannot reach: told like any target that cannot be reached.
  if (status >= 500) throw new WireError('unreachable', 'the proxy found nothing');
  if (status < 200 || status >= 300) throw new WireError('proxy', `it answered ${status}`);
  if (head.length > end + 4) throw new WireError('proxy', 'it sent more than its answer');
}

function parseProxyAnswer(text: string): { status: number } {
  try {
    return parseResponseHead(text);
  } catch (error) {
    throw new WireError('proxy', 'it does not speak HTTP', { cause: error });
  }
}
