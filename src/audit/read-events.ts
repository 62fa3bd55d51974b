// Events one after another, for whoever reads them.
import { setTimeout as delay } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { eventsAfter, type NumberedEvent, positionBeforeLast } from './event-queries.ts';

export interface EventRange {
  /** Begins so many events before the end, when `after` is 0. */
  last: number;
  /** Begins after the event of that number. */
  after: number;
  /** Goes on with what comes until `signal` aborts. */
  follow: boolean;
}

const batchEvents = 200;
const pollMs = 500;

export async function* readEvents(
  fork: () => EntityManager,
  { last, after, follow }: EventRange,
  signal: AbortSignal,
  beforeLook: () => Promise<unknown> = async () => {},
): AsyncGenerator<NumberedEvent> {
  await beforeLook();
  let position = after > 0 ? after : await positionBeforeLast(fork(), last);
  while (!signal.aborted) {
    await beforeLook();
    const events = await eventsAfter(fork(), position, batchEvents);
    yield* events;
    position = events.at(-1)?.position ?? position;
    if (events.length > 0) continue;
    if (!follow) return;
    await delay(pollMs, undefined, { signal }).catch(() => {});
  }
}
