// Wakes runners, and whoever collects garbage: those of this process in memory, those of others by NOTIFY, sent outside of the transaction
// that made the work (a NOTIFY inside would serialise every commit) and coalesced: however often it rings, one is under way and at most
// one waits.
//
// A ring is a hint. It may be lost, late or doubled; runners also look once a second, and garbage is collected once an hour.
import { randomUUID } from 'node:crypto';
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';

export const jobChannel = 'obraz_jobs';

/** More ids than this are not named: everybody looks at all that it runs. NOTIFY carries at most 8,000 bytes. */
const maxNamedIds = 100;

export interface JobListener {
  /** There may be a job to claim. */
  onWork?(): void;
  /** Somebody wants these operations cancelled; `undefined`: any may be meant. */
  onCancel?(operationIds: readonly string[] | undefined): void;
  /** This operation has ended, or a job of another kind goes on with it. */
  onEnded?(operationId: string): void;
  /** Something was let go of: its bytes can be collected. */
  onFreed?(): void;
}

interface Notice {
  from: string;
  /** Absent: none; null: too many to name. */
  cancelled?: string[] | null;
  freed?: true;
}

export class JobBell {
  readonly #id = randomUUID();
  readonly #fork: () => EntityManager;
  readonly #listeners = new Set<JobListener>();
  #cancelled = new Set<string>();
  #hasFreed = false;
  #isWaiting = false;
  #sending: Promise<void> | undefined;

  /** `fork` answers an EntityManager outside of any transaction. */
  constructor(fork: () => EntityManager) {
    this.#fork = fork;
  }

  subscribe(listener: JobListener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  /** Call it after the commit that made jobs due; `cancelled` names operations that were flagged in it. */
  ring(cancelled: readonly string[] = []): void {
    for (const listener of this.#listeners) {
      if (cancelled.length > 0) listener.onCancel?.(cancelled);
      listener.onWork?.();
    }
    for (const id of cancelled) this.#cancelled.add(id);
    this.#tellOthers();
  }

  /** Call it after a commit that let go of data. */
  freed(): void {
    for (const listener of this.#listeners) listener.onFreed?.();
    this.#hasFreed = true;
    this.#tellOthers();
  }

  /** Call it after the commit that ended an operation, or handed it over. Local: other processes look at the row. */
  ended(operationId: string): void {
    for (const listener of this.#listeners) listener.onEnded?.(operationId);
  }

  /** What came by LISTEN. Whatever else may write to the channel, the worst that it does is a look. */
  hear(payload: string): void {
    const notice = parseNotice(payload);
    if (notice?.from === this.#id) return;
    for (const listener of this.#listeners) {
      if (notice === undefined || notice.cancelled === null) listener.onCancel?.(undefined);
      else if (notice.cancelled !== undefined) listener.onCancel?.(notice.cancelled);
      if (notice?.freed === true) listener.onFreed?.();
      listener.onWork?.();
    }
  }

  /** Resolves when no notification is under way: the database may go. */
  async settled(): Promise<void> {
    await this.#sending;
  }

  #tellOthers(): void {
    this.#isWaiting = true;
    this.#sending ??= this.#send();
  }

  async #send(): Promise<void> {
    while (this.#isWaiting) {
      this.#isWaiting = false;
      const cancelled = [...this.#cancelled];
      this.#cancelled = new Set();
      const notice: Notice = { from: this.#id };
      if (cancelled.length > 0) notice.cancelled = cancelled.length > maxNamedIds ? null : cancelled;
      if (this.#hasFreed) notice.freed = true;
      this.#hasFreed = false;
      // A database that is away needs no word of it here: whoever made the work has got the error or will, and runners look again.
      await this.#notify(JSON.stringify(notice)).catch(() => {});
    }
    this.#sending = undefined;
  }

  async #notify(payload: string): Promise<void> {
    await query(this.#fork(), 'select pg_notify($1, $2)', [jobChannel, payload]);
  }
}

function parseNotice(payload: string): Notice | undefined {
  try {
    const notice = JSON.parse(payload) as Partial<Notice> | null;
    if (typeof notice?.from !== 'string') return undefined;
    const { from, cancelled } = notice;
    const isList = Array.isArray(cancelled) && cancelled.every((id) => typeof id === 'string');
    if (cancelled === undefined || cancelled === null || isList) return notice as Notice;
    return { from, cancelled: null, ...(notice.freed === true ? { freed: true } : {}) };
  } catch {
    return undefined;
  }
}
