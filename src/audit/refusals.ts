// Events of refused calls. A stranger can make as many as he likes, so they are let in at a low rate, by caller and in all; what is left
// out is counted. They wait in memory for a moment, and are written one after another.
import type { EntityManager } from '@mikro-orm/postgresql';
import { networkOf } from '../platform/network-of.ts';
import { TokenBuckets } from '../platform/token-buckets.ts';
import type { AuditEventJson, EventStatus } from './event.ts';
import { insertEvent } from './event-queries.ts';
import type { Place, Places } from './places.ts';

export interface RefusalBounds {
  /** Of one subject, or of one address without one. */
  burst: number;
  perSecond: number;
  /** Of all callers without a subject together: what bounds the disk that strangers can fill. */
  strangersBurst: number;
  strangersPerSecond: number;
}

/** Strangers write at most 60 MB a day or so, however many they are. */
const defaultBounds: RefusalBounds = { burst: 30, perSecond: 0.5, strangersBurst: 300, strangersPerSecond: 1 };

export interface RefusalsParts {
  fork: () => EntityManager;
  places: Places;
  log: { warn: (fields: object, text: string) => void };
  onWritten: (status: EventStatus) => void;
  onLeftOut: () => void;
  bounds?: Partial<RefusalBounds>;
  /** Milliseconds that never jump; for tests. */
  now?: () => number;
}

const maxCallers = 10_000;
const maxWaiting = 1_000;
const farewellMs = 2_000;

export class Refusals implements AsyncDisposable {
  readonly #parts: RefusalsParts;
  readonly #callers: TokenBuckets;
  readonly #strangers: TokenBuckets;
  readonly #waiting: { event: AuditEventJson; place: Place }[] = [];
  #writing: Promise<void> | undefined;
  #leftOut = 0;
  #isStopping = false;

  constructor(parts: RefusalsParts) {
    this.#parts = parts;
    const { burst, perSecond, strangersBurst, strangersPerSecond } = { ...defaultBounds, ...parts.bounds };
    const now = parts.now === undefined ? {} : { now: parts.now };
    this.#callers = new TokenBuckets({ perSecond, burst, maxKeys: maxCallers, ...now });
    this.#strangers = new TokenBuckets({ perSecond: strangersPerSecond, burst: strangersBurst, maxKeys: 1, ...now });
  }

  /** Whether an event of this caller is let in: then how many were left out, of all callers, since the last one; else undefined. */
  admit({ subjectId, address }: { subjectId: string | undefined; address: string }): number | undefined {
    const isKnown = subjectId !== undefined;
    const isFull = this.#waiting.length >= maxWaiting;
    if (
      isFull ||
      this.#callers.take(isKnown ? `s ${subjectId}` : `a ${networkOf(address)}`) > 0 ||
      (!isKnown && this.#strangers.take('') > 0)
    ) {
      this.#leftOut += 1;
      this.#parts.onLeftOut();
      return undefined;
    }
    const leftOut = this.#leftOut;
    this.#leftOut = 0;
    return leftOut;
  }

  add(event: AuditEventJson, place: Place): void {
    this.#waiting.push({ event, place });
    this.#writing ??= this.#writeAll();
  }

  /** Resolves when all that waits has been written, or could not be. */
  async written(): Promise<void> {
    await this.#writing;
  }

  async #writeAll(): Promise<void> {
    // Not within the call that was refused.
    await new Promise((resolve) => setImmediate(resolve));
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      try {
        await insertEvent(this.#parts.fork(), this.#parts.places, next.event, next.place);
        this.#parts.onWritten(next.event.eventStatus);
      } catch (error) {
        // The call was refused all the same, and stands in the log.
        this.#leftOut += 1;
        this.#parts.onLeftOut();
        if (!this.#isStopping) this.#parts.log.warn({ err: error }, 'an audit event of a refused call could not be written');
      }
    }
    this.#writing = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const timeUp = new AbortController();
    const late = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, farewellMs);
      timeUp.signal.addEventListener('abort', () => {
        clearTimeout(timer);
        resolve();
      });
    });
    await Promise.race([this.#writing, late]);
    timeUp.abort();
    this.#isStopping = true;
    // Nothing more: the database goes next.
    this.#waiting.length = 0;
  }
}
