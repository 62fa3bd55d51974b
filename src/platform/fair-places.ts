// Places that several users share: a free one goes to the waiting user who has the fewest, and the last one only to a user who has none, so that
// one who keeps his for long holds up nobody else. Among equals, and for one user, in the order of asking.

/** One who asks for places, again and again. */
export interface PlaceUser {
  /** Waits for a place. The answer gives it back, once. @throws signal.reason when aborted while waiting. */
  acquire(signal?: AbortSignal): Promise<() => void>;
}

interface Waiter {
  user: Holdings;
  grant: () => void;
}

interface Holdings {
  held: number;
}

export class FairPlaces {
  #free: number;
  readonly #waiting: Waiter[] = [];

  /** @param places at least 2 */
  constructor(places: number) {
    this.#free = places;
  }

  user(): PlaceUser {
    const user: Holdings = { held: 0 };
    return {
      acquire: async (signal) => {
        signal?.throwIfAborted();
        if (this.#isFor(user)) this.#give(user);
        else await this.#wait(user, signal);
        let isHeld = true;
        return () => {
          if (!isHeld) return;
          isHeld = false;
          user.held -= 1;
          this.#free += 1;
          this.#grantNext();
        };
      },
    };
  }

  #isFor(user: Holdings): boolean {
    return this.#free > 1 || (this.#free === 1 && user.held === 0);
  }

  #give(user: Holdings): void {
    this.#free -= 1;
    user.held += 1;
  }

  #grantNext(): void {
    const [first, ...others] = this.#waiting;
    if (first === undefined) return;
    const next = others.reduce((least, waiter) => (waiter.user.held < least.user.held ? waiter : least), first);
    if (!this.#isFor(next.user)) return;
    this.#waiting.splice(this.#waiting.indexOf(next), 1);
    this.#give(next.user);
    next.grant();
  }

  #wait(user: Holdings, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const grant = (): void => {
        signal?.removeEventListener('abort', refuse);
        resolve();
      };
      const waiter: Waiter = { user, grant };
      const refuse = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(signal?.reason as Error);
      };
      this.#waiting.push(waiter);
      signal?.addEventListener('abort', refuse, { once: true });
    });
  }
}
