// The database of garbage collection, in memory: what src/storage/ledger.ts and admission.ts ask for, with rows, jobs and writers as
// simple maps. What stands between two steps is one transaction.
import { TransientError } from '../../../../src/platform/errors.ts';
import type { PageAddress } from '../../../../src/storage/address.ts';
import type { Admission } from '../../../../src/storage/admission.ts';
import type { Claim, Condemned, Ledger } from '../../../../src/storage/ledger.ts';

interface Condemnation {
  id: number;
  /** The writers that were registered after the commit; undefined until they are noted. */
  waitsFor: Set<number> | undefined;
  claim: Session | undefined;
}

/** A collector's session with the database. It ends with its process, or before it. */
export interface Session {
  alive: boolean;
  /** Deletes that were begun and whose end is not known. */
  readonly begun: Set<string>;
}

export class RegistrationEndedError extends Error {}

type Step = () => Promise<void>;

/** Faults that a wrong implementation might have: the model test must notice each. */
export interface LedgerFaults {
  notesWritersBeforeCommit?: boolean;
  claimsAnyCondemnation?: boolean;
  admitsClaimed?: boolean;
  forgetsToWithdraw?: boolean;
  readsRootsInParts?: boolean;
  forgetsPins?: boolean;
}

export class MemoryLedger {
  /** Roots of images, by id. */
  readonly rows = new Map<string, PageAddress>();
  /** Roots that jobs which have not ended pin, by job. */
  readonly pins = new Map<string, PageAddress[]>();
  readonly writers = new Set<number>();
  readonly condemned = new Map<string, Condemnation>();
  readonly faults: LedgerFaults;
  #lastId = 0;

  constructor(faults: LedgerFaults = {}) {
    this.faults = faults;
  }

  register(): number {
    const id = ++this.#lastId;
    this.writers.add(id);
    return id;
  }

  /** Refuses the commits of a writer whose registration has ended. */
  assertRegistered(writer: number): void {
    if (!this.writers.has(writer)) throw new RegistrationEndedError();
  }

  liveRoots(): PageAddress[] {
    return [...this.rows.values(), ...[...this.pins.values()].flat()];
  }

  admission(step: Step): Admission {
    return async (keys) => {
      await step();
      const answers: ('fresh' | 'rewrite')[] = [];
      for (const key of keys) answers.push(await this.#admit(key, step));
      await step();
      return answers;
    };
  }

  async #admit(key: string, step: Step): Promise<'fresh' | 'rewrite'> {
    for (let tries = 0; tries < 30; tries += 1) {
      const found = this.condemned.get(key);
      if (found === undefined) return 'fresh';
      if (!this.#isClaimed(key, found) || this.faults.admitsClaimed) {
        if (!this.faults.forgetsToWithdraw) this.condemned.delete(key);
        return 'rewrite';
      }
      await step();
    }
    throw new TransientError('the object is being deleted');
  }

  /** A claim outlives its session by the time that a delete under way may take. */
  #isClaimed(key: string, { claim }: Condemnation): boolean {
    return claim !== undefined && (claim.alive || claim.begun.has(key));
  }

  collector(session: Session, step: Step): Ledger {
    return {
      roots: () => this.#roots(step),
      condemn: (keys) => this.#condemn(keys, step),
      expired: () => this.#expired(step),
      withdraw: async (condemned) => {
        await step();
        for (const { key } of this.#standing(condemned)) this.condemned.delete(key);
        await step();
      },
      claim: async (condemned) => {
        await step();
        const keys = this.#standing(condemned).map(({ key }) => key);
        for (const key of keys) this.condemned.get(key)!.claim = session;
        await step();
        return this.#claim(keys, session, step);
      },
    };
  }

  async *#roots(step: Step): AsyncGenerator<PageAddress> {
    await step();
    if (this.faults.readsRootsInParts) {
      const pinned = [...this.pins.values()].flat();
      await step();
      await step();
      yield* [...pinned, ...this.rows.values()];
      return;
    }
    const roots = this.faults.forgetsPins ? [...this.rows.values()] : this.liveRoots();
    for (const root of roots) {
      yield root;
      await step();
    }
  }

  async #condemn(keys: readonly string[], step: Step): Promise<number> {
    await step();
    const early = new Set(this.writers);
    if (this.faults.notesWritersBeforeCommit) await step();
    const news = keys.filter((key) => !this.condemned.has(key));
    for (const key of news) this.condemned.set(key, { id: ++this.#lastId, waitsFor: undefined, claim: undefined });
    await step();
    for (const condemnation of this.condemned.values())
      condemnation.waitsFor ??= new Set(this.faults.notesWritersBeforeCommit ? early : this.writers);
    await step();
    return news.length;
  }

  async *#expired(step: Step): AsyncGenerator<Condemned> {
    await step();
    const expired = [...this.condemned].filter(
      ([key, found]) =>
        found.waitsFor !== undefined &&
        !this.#isClaimed(key, found) &&
        [...found.waitsFor].every((writer) => !this.writers.has(writer)),
    );
    for (const [key, { id }] of expired) yield { key, condemnation: String(id) };
    await step();
  }

  #standing(condemned: readonly Condemned[]): Condemned[] {
    return condemned.filter(({ key, condemnation }) => {
      const found = this.condemned.get(key);
      if (found === undefined || this.#isClaimed(key, found)) return false;
      return this.faults.claimsAnyCondemnation || String(found.id) === condemnation;
    });
  }

  #claim(keys: readonly string[], session: Session, step: Step): Claim {
    return {
      keys,
      begin: (key) => {
        if (!session.alive) throw new Error('the claim has ended');
        session.begun.add(key);
      },
      settle: async (settled) => {
        await step();
        for (const key of settled) {
          if (this.condemned.get(key)?.claim === session) this.condemned.delete(key);
          session.begun.delete(key);
        }
        await step();
      },
      [Symbol.asyncDispose]: async () => {
        await step();
        for (const key of keys) {
          const found = this.condemned.get(key);
          if (found?.claim === session && !session.begun.has(key)) found.claim = undefined;
        }
      },
    };
  }
}
