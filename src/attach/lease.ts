// The lease of one session, as this process knows it: it measures by its monotonic clock how long ago it asked the database, and takes the
// lease for lost well before the database does. `ended` fires then, and whenever the session must not go on.
import { BlockDeviceError } from '../nbd/block-device.ts';
import type { Access } from './access.ts';
import { leaseMs } from './session-queries.ts';

/** The lease counts as lost so long before the database lets it go. */
const marginMs = 2_000;

export class Lease {
  readonly id: string;
  readonly access: Access;
  readonly #ended = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #endsAtMs = -Infinity;

  /** `askedAtMs`: monotonic time before the lease was asked for. */
  constructor(id: string, access: Access, askedAtMs: number) {
    this.id = id;
    this.access = access;
    this.renewed(askedAtMs);
  }

  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  get isHeld(): boolean {
    return !this.#ended.signal.aborted && performance.now() < this.#endsAtMs;
  }

  /** Called before and after what must not happen without a lease. @throws BlockDeviceError ESHUTDOWN */
  assertHeld(): void {
    if (this.isHeld) return;
    // A process that was stopped comes here before its timers do.
    if (!this.#ended.signal.aborted) this.#lost();
    throw new BlockDeviceError('ESHUTDOWN', (this.#ended.signal.reason as Error).message);
  }

  renewed(askedAtMs: number): void {
    if (this.#ended.signal.aborted) return;
    this.#endsAtMs = askedAtMs + leaseMs - marginMs;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lost(), Math.max(0, this.#endsAtMs - performance.now()));
    this.#timer.unref();
  }

  #lost(): void {
    this.end(`the lease of session ${this.id} has ended: the database could not be asked in time`);
  }

  end(reason: string): void {
    clearTimeout(this.#timer);
    this.#ended.abort(new Error(reason));
  }

  /** The session has closed by itself. */
  release(): void {
    clearTimeout(this.#timer);
    this.#endsAtMs = -Infinity;
  }
}
