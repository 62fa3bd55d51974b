// Documents of an identity provider: short JSON, fetched seldom. Each fetch is bounded in time and bytes and follows no redirect, and none is
// made again at once, whatever came of the one before: strangers with made-up tokens cannot make this service a burden to the provider.
import { TransientError } from '../../platform/errors.ts';

const timeoutMs = 5_000;
const maxBytes = 256 * 1024;
const restMs = 5_000;

export type Fetch = (url: string) => Promise<Response>;

/** `onFailure` hears each failure. @throws TransientError for all of them. */
export function boundedFetch(onFailure: (error: unknown) => void, monotonicNow = () => performance.now()): Fetch {
  /** When each document was last asked for. There are two. */
  const askedAt = new Map<string, number>();
  return async (url) => {
    if (monotonicNow() - (askedAt.get(url) ?? -Infinity) < restMs) throw unavailable();
    askedAt.set(url, monotonicNow());
    try {
      return await fetchOnce(url);
    } catch (error) {
      onFailure(error);
      throw unavailable(error);
    }
  };
}

export const unavailable = (cause?: unknown): TransientError =>
  new TransientError('The identity provider does not answer, so the token could not be checked. Try again.', { cause });

async function fetchOnce(url: string): Promise<Response> {
  const signal = AbortSignal.timeout(timeoutMs);
  const response = await fetch(url, { headers: { accept: 'application/json' }, redirect: 'error', signal });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`${url} answers ${response.status}, not 200`);
  }
  return new Response(await readBounded(url, response), { status: 200, headers: { 'content-type': 'application/json' } });
}

async function readBounded(url: string, { body }: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  // Leaving the loop early cancels the rest.
  for await (const chunk of body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) throw new Error(`${url} has more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
