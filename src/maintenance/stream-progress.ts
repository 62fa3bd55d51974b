// A long piece of work as a stream of messages: the latest of what it tells, at most a few times a second, then what it answers.
import { setTimeout as delay } from 'node:timers/promises';

const everyMs = 300;

/**
 * Yields the latest progress now and then, and returns what the work answers. When the reader goes away, `signal` (of the call, given to
 * the work by the caller) ends the work; its end is waited for. @throws what the work throws.
 */
export async function* streamProgress<Progress, Result>(
  work: (tell: (progress: Progress) => void, signal: AbortSignal) => Promise<Result>,
  signal: AbortSignal,
): AsyncGenerator<Progress, Result> {
  const left = new AbortController();
  let latest: Progress | undefined;
  const running = work((progress) => (latest = progress), AbortSignal.any([signal, left.signal]));
  // Never rejects: the work's error is thrown below.
  const ended = running.then(
    () => true,
    () => true,
  );
  try {
    while (true) {
      if (await Promise.race([ended, delay(everyMs, false, { ref: false })])) return await running;
      const told = latest;
      latest = undefined;
      if (told !== undefined) yield told;
    }
  } finally {
    left.abort(new Error('nobody listens any more'));
    await ended;
  }
}
