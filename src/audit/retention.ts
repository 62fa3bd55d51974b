// Events are kept for as long as the configuration says, then go.
import { setTimeout as delay } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { removeOldEvents } from './event-queries.ts';

const intervalMs = 10 * 60 * 1000;

/** Removes old events now and then until `signal` fires; never throws. What fails is tried again at the next time. */
export async function keepEventsFor(
  keepMs: number,
  parts: { fork: () => EntityManager; log: { warn: (fields: object, text: string) => void } },
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await removeOldEvents(parts.fork(), keepMs, signal);
    } catch (error) {
      if (!signal.aborted) parts.log.warn({ err: error }, 'old audit events could not be removed');
    }
    await delay(intervalMs, undefined, { signal }).catch(() => {});
  }
}
