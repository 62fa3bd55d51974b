// The generations of one writer, from its first to its last: the order in which rows and files change. generation-queries.ts tells the
// protocol; what is kept here:
//
// - The file of the open generation is durable before its row (`#begin`), and the row is committed before the first change goes in:
//   changes come through `during`, and only while `obstacle` is undefined.
// - To seal (`seal`), changes are held back until none is under way: so the sealed length covers all that was answered before, and the
//   next change finds a generation that has no row yet, and begins it.
// - The file of the next generation is made ahead: a machine whose disk is full can seal and commit all the same, which makes room.
// - When an outcome is not known (a broken commit), it is asked for again until the lease ends, and the session with it. What it leaves is
//   settled by its length in the file (settle.ts), never by what this object believes.
// - A log whose writing or syncing failed is sealed at what was known to be durable.
// - When a commit has put generations into the base, `refresh` reads that off the rows and moves the overlay over; the row of the
//   session holds the old base until the overlay has let go of it.
// - Seals, refreshes and the leaving run one after another. Whatever fails, a writer that has left is not counted as one any more.
import { rm } from 'node:fs/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import type { AttachAudit } from '../audit/attach-audit.ts';
import { throughOutages } from '../db/through-outages.ts';
import { BlockDeviceError } from '../nbd/block-device.ts';
import type { Log } from '../platform/log.ts';
import { parsePageAddress } from '../storage/address.ts';
import { openLayerView } from '../storage/layer-view.ts';
import type { Storage } from '../storage/open.ts';
import { OverlayFullError } from '../storage/overlay/errors.ts';
import { createGeneration, type OpenGeneration } from '../storage/overlay/generation.ts';
import { logHeaderBytes } from '../storage/overlay/log-format.ts';
import type { WritableOverlay } from '../storage/overlay/writable-overlay.ts';
import type { GenerationFiles, GenerationKey } from './generation-files.ts';
import { beginGeneration, dropEmpty, lockDiskRow, readWritten, sealGeneration } from './generation-queries.ts';
import type { IndexBudget } from './index-budget.ts';
import type { Lease } from './lease.ts';
import { moveSession, removeSessions } from './session-queries.ts';
import type { LogOwner } from './write-room.ts';

export interface WriterGenerationsParts {
  fork: () => EntityManager;
  storage: Storage;
  files: GenerationFiles;
  machineId: string;
  log: Log;
  audit?: AttachAudit;
  /** The disk should be committed: something is sealed. */
  onSealed: (diskId: string) => void;
}

/** What the session's opening has made; the overlay's open generation is `number`, and has no row yet. */
export interface OpenedOverlay {
  lease: Lease;
  overlay: WritableOverlay;
  number: number;
  base: string | null;
  budget: IndexBudget;
  /** When the writer has left. */
  closed: () => void;
}

export class WriterGenerations implements LogOwner, AsyncDisposable {
  readonly diskId: string;
  readonly lease: Lease;
  readonly overlay: WritableOverlay;
  readonly #parts: WriterGenerationsParts;
  readonly #budget: IndexBudget;
  readonly #closed: () => void;
  /** Of the open generation. */
  #number: number;
  /** Its row is there. */
  #isBegun = false;
  #beginning: Promise<void> | undefined;
  #changesUnderWay = 0;
  #whenIdle: (() => void) | undefined;
  /** Changes wait for it while a generation is being sealed. */
  #gate: Promise<void> | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #leaving: Promise<void> | undefined;
  #sealWanted = false;
  /** The layer that the overlay reads, and the one that the session's row holds. */
  #base: string | null;
  #heldBase: string | null;
  /** The next generation's file, as soon as there was room for it. */
  #spare: OpenGeneration | undefined;

  constructor(parts: WriterGenerationsParts, { lease, overlay, number, base, budget, closed }: OpenedOverlay) {
    this.#parts = parts;
    this.lease = lease;
    this.overlay = overlay;
    this.diskId = lease.access.resourceId;
    this.#number = number;
    this.#base = base;
    this.#heldBase = base;
    this.#budget = budget;
    this.#closed = closed;
    budget.note(this);
  }

  get logBytes(): number {
    return this.overlay.logBytes;
  }

  get indexBytes(): number {
    return this.overlay.indexBytes;
  }

  get openIndexBytes(): number {
    return this.overlay.openIndexBytes;
  }

  /** Generations of this session from here on are not for others to remove. */
  get openNumber(): number {
    return this.#number;
  }

  /** Resolves when it has left; undefined while it has not begun to. */
  get leaving(): Promise<void> | undefined {
    return this.#leaving;
  }

  /** Whether `refresh` may have something to do. */
  get mayBeOutdated(): boolean {
    return this.overlay.sealed.length > 0 || this.#heldBase !== this.#base || this.#spare === undefined;
  }

  /**
   * What a change has to wait for before it may go in; look again then. Undefined: it may, if `during` is called at once.
   * @throws BlockDeviceError ESHUTDOWN when the writer is leaving.
   */
  get obstacle(): Promise<void> | undefined {
    if (this.#leaving !== undefined) throw new BlockDeviceError('ESHUTDOWN', 'the export is closing');
    if (this.#gate !== undefined || this.#isBegun) return this.#gate;
    if (this.#beginning === undefined) {
      this.#beginning = this.#begin();
      // Whoever asked may have gone when it fails.
      this.#beginning.catch(() => undefined);
    }
    return this.#beginning;
  }

  /** A change of the overlay: the generation that it goes into is not sealed before it has ended. */
  async during<Answer>(change: () => Promise<Answer>): Promise<Answer> {
    this.#changesUnderWay += 1;
    try {
      return await change();
    } finally {
      this.#changesUnderWay -= 1;
      if (this.#changesUnderWay === 0) this.#whenIdle?.();
      this.#budget.note(this);
    }
  }

  get #key(): GenerationKey {
    return { diskId: this.diskId, generation: this.#number, writerId: this.lease.id };
  }

  async #begin(): Promise<void> {
    try {
      const row = { ...this.#key, machineId: this.#parts.machineId };
      const isBegun = await this.#transaction((em) => beginGeneration(em, row));
      if (!isBegun) this.#fenced();
      this.#isBegun = true;
    } finally {
      this.#beginning = undefined;
    }
  }

  /** Everything that was answered before the call lies in sealed generations when it resolves. @throws Error when the session ends. */
  async seal(): Promise<void> {
    // One that leaves seals what it has; not waited for in the turn that it waits for itself.
    if (!(await this.#sealUnlessLeaving())) await this.#leaving;
  }

  /** The same, for nobody who waits. */
  sealSoon(): void {
    if (this.#sealWanted) return;
    this.#sealWanted = true;
    const { log, onSealed } = this.#parts;
    this.seal()
      .then(() => onSealed(this.diskId))
      .catch((error: unknown) => log.warn({ diskId: this.diskId, err: error }, 'a generation could not be sealed'))
      .finally(() => (this.#sealWanted = false));
  }

  #sealUnlessLeaving(): Promise<boolean> {
    return this.#inTurn(async () => {
      if (this.#leaving !== undefined) return false;
      if (!this.#isBegun || this.overlay.openIsEmpty) return true;
      const { diskId, lease } = this;
      const next = this.#spare ?? (await this.#createNext());
      this.#spare = undefined;
      const gate = Promise.withResolvers<void>();
      this.#gate = gate.promise;
      try {
        await this.#idle();
        await this.overlay.rotate(next, (lengthBytes) => this.#commitSeal(lengthBytes));
        this.#number += 1;
        this.#isBegun = false;
      } catch (error) {
        // The outcome is not known, or the overlay has failed: whoever settles what is left reads it off the rows and files.
        lease.end(`disk ${diskId} could not be sealed: ${(error as Error).message}`);
        await next[Symbol.asyncDispose]();
        await rm(next.file, { force: true });
        throw error;
      } finally {
        this.#gate = undefined;
        gate.resolve();
      }
      this.#parts.onSealed(diskId);
      await this.#keepSpare();
      return true;
    });
  }

  async #createNext(): Promise<OpenGeneration> {
    const key = { ...this.#key, generation: this.#number + 1 };
    const file = this.#parts.files.of(key);
    // What an attempt left for which there was no room.
    await rm(file, { force: true });
    return createGeneration(file, key, this.overlay.sizeBytes);
  }

  /** When it cannot be made it is tried again later: what was sealed is sealed. */
  async #keepSpare(): Promise<void> {
    if (this.#spare !== undefined) return;
    try {
      this.#spare = await this.#createNext();
    } catch (error) {
      if (error instanceof OverlayFullError) return;
      this.#parts.log.warn({ diskId: this.diskId, err: error }, 'the log of the next generation could not be made');
    }
  }

  async #commitSeal(lengthBytes: number): Promise<void> {
    const isSealed = await this.#transaction(async (em) => {
      await lockDiskRow(em, this.diskId);
      return sealGeneration(em, { ...this.#key, lengthBytes });
    });
    if (!isSealed) this.#fenced();
  }

  async #idle(): Promise<void> {
    while (this.#changesUnderWay > 0) {
      const idle = Promise.withResolvers<void>();
      this.#whenIdle = idle.resolve;
      await idle.promise;
    }
    this.#whenIdle = undefined;
  }

  /** Takes up what commits have done since: the base that holds what was in generations, which the rows have no more. */
  refresh(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#leaving !== undefined) return;
      const state = await readWritten(this.#parts.fork(), this.diskId);
      if (state === undefined) return;
      const left = new Set(state.generations);
      const folded = this.overlay.sealed.map(({ name }) => name.generation).filter((generation) => !left.has(generation));
      const through = folded.at(-1) ?? 0;
      if (through > 0 || state.layerRoot !== this.#base) {
        const { storage } = this.#parts;
        const root = state.layerRoot === null ? undefined : parsePageAddress(state.layerRoot);
        await this.overlay.rebase(await openLayerView(storage, root, this.overlay.sizeBytes), through);
        this.#base = state.layerRoot;
        this.#budget.gaveBack(this);
      }
      if (this.#heldBase !== this.#base) {
        await moveSession(this.#parts.fork(), this.lease.id, this.#base);
        this.#heldBase = this.#base;
      }
      await this.#keepSpare();
    });
  }

  /** Seals what was written and frees the disk; whatever fails is settled later. Every change has ended by now. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#leaving ??= this.#inTurn(() => this.#leave());
    return this.#leaving;
  }

  async #leave(): Promise<void> {
    const { log, files, onSealed } = this.#parts;
    const { diskId, lease, overlay } = this;
    try {
      // A begin whose client has gone may still be under way.
      await this.#beginning?.catch(() => {});
      const unused = [{ ...this.#key, generation: this.#number + 1 }];
      if ((await this.#settle()) === 'dropped') unused.push(this.#key);
      for (const each of [overlay, this.#spare]) {
        try {
          await each?.[Symbol.asyncDispose]();
        } catch (error) {
          log.warn({ diskId, err: error }, 'the files of an overlay could not be closed');
        }
      }
      await files.remove(unused).catch(() => {});
    } finally {
      this.#budget.remove(this);
      lease.release();
      this.#closed();
      onSealed(diskId);
    }
  }

  /** Seal and end of the lease in one. Undefined: left to others, who read it off the rows and files when the lease has ended. */
  async #settle(): Promise<'sealed' | 'dropped' | undefined> {
    const { diskId, lease } = this;
    const { log, audit } = this.#parts;
    try {
      const { lengthBytes, failure } = await this.overlay.finish();
      if (failure !== undefined)
        log.warn({ diskId, lengthBytes, err: failure }, 'of a log that failed only what was synced counts');
      const isEmpty = lengthBytes === logHeaderBytes;
      await this.#transaction(async (em) => {
        await lockDiskRow(em, diskId);
        // Also when it is not known to have begun: the commit of a begin may have been made though its answer was lost.
        if (isEmpty) await dropEmpty(em, diskId, this.#number, lease.id);
        else if (!(await sealGeneration(em, { ...this.#key, lengthBytes })))
          throw new Error('the lease has ended before it was sealed');
        // What is done again, since its outcome was not known, finds it gone.
        const ended = await removeSessions(em, [lease.id]);
        await audit?.detached(em, ended);
      });
      return isEmpty ? 'dropped' : 'sealed';
    } catch (error) {
      log.warn({ diskId, sessionId: lease.id, reason: (error as Error).message }, 'a disk was not detached in order');
      return undefined;
    }
  }

  #fenced(): never {
    this.lease.end(`disk ${this.diskId}: the lease has ended, or the disk was deleted`);
    throw this.lease.ended.reason as Error;
  }

  #inTurn<Answer>(work: () => Promise<Answer>): Promise<Answer> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  /** Again while its outcome is not known and the lease lasts: what it does may be done twice. */
  #transaction<Answer>(body: (em: EntityManager) => Promise<Answer>): Promise<Answer> {
    return throughOutages(
      () => this.#parts.fork().transactional(body),
      () => this.lease.isHeld,
    );
  }
}
