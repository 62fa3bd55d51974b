// The one writer of a disk: a session with a lease, an overlay of generations above the disk's base, and the order in which rows and files
// change. generation-queries.ts tells the protocol; what is kept here:
//
// - The file of the open generation is durable before its row (`#begin`), and the row is committed before the first write is answered.
// - To seal (`seal`), writes are held back until none is under way: so the sealed length covers all that was answered before, and the
//   next write finds a generation that has no row yet, and begins it.
// - The file of the next generation is made ahead: a machine whose disk is full can seal and commit all the same, which makes room.
// - Nothing is answered without a lease: it is looked at before every change, and after every sync that a client was promised.
// - When an outcome is not known (a broken commit), it is asked for again until the lease ends, and the session with it. What it leaves is
//   settled by its length in the file (settle.ts), never by what this object believes.
// - When a commit has put generations into the base, `refresh` reads that off the rows and moves the overlay over; the row of the
//   session holds the old base until the overlay has let go of it.
import { rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import { isTransientDatabaseError } from '../db/database-error.ts';
import { type BlockDevice, BlockDeviceError, type BlockRun, type WriteZeroesOptions } from '../nbd/block-device.ts';
import type { Log } from '../platform/log.ts';
import { untilAborted } from '../platform/until-aborted.ts';
import { parsePageAddress } from '../storage/address.ts';
import { openLayerView } from '../storage/layer-view.ts';
import type { Storage } from '../storage/open.ts';
import { OverlayFailedError, OverlayFullError } from '../storage/overlay/errors.ts';
import { createGeneration, type OpenGeneration } from '../storage/overlay/generation.ts';
import { logHeaderBytes } from '../storage/overlay/log-format.ts';
import type { WritableOverlay } from '../storage/overlay/writable-overlay.ts';
import { asDeviceError } from './device-errors.ts';
import type { GenerationFiles, GenerationKey } from './generation-files.ts';
import { beginGeneration, dropEmpty, lockDiskRow, sealGeneration } from './generation-queries.ts';
import { preferredBlockBytes } from './layer-reader.ts';
import type { Lease } from './lease.ts';
import { moveSession, removeSessions } from './session-queries.ts';

/** When the log or the index of the open generation passes these, it is sealed and committed while writes go on. */
export interface WriterBounds {
  openLogBytes: number;
  openIndexBytes: number;
  /** Of all generations that are not committed: writes wait when these are passed, until a commit has made room. */
  logBytes: number;
  indexBytes: number;
}

const MiB = 1024 * 1024;

export const defaultWriterBounds: WriterBounds = {
  openLogBytes: 512 * MiB,
  openIndexBytes: 16 * MiB,
  logBytes: 8 * 1024 * MiB,
  indexBytes: 128 * MiB,
};

export interface DiskWriterParts {
  fork: () => EntityManager;
  storage: Storage;
  files: GenerationFiles;
  machineId: string;
  log: Log;
  /** The disk should be committed: something is sealed. */
  onSealed: (diskId: string) => void;
  bounds?: Partial<WriterBounds>;
}

export class DiskWriter implements BlockDevice {
  readonly diskId: string;
  readonly sizeBytes: number;
  readonly readOnly = false;
  readonly preferredBlockBytes = preferredBlockBytes;
  readonly multiConn = false;
  readonly lease: Lease;
  readonly ended: AbortSignal;
  readonly #parts: DiskWriterParts;
  readonly #bounds: WriterBounds;
  readonly #overlay: WritableOverlay;
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
  /** Seals, refreshes and the close run one after another. */
  #turn: Promise<unknown> = Promise.resolve();
  #isClosing = false;
  #closing: Promise<void> | undefined;
  #sealWanted = false;
  /** The layer that the overlay reads, and the one that the session's row holds. */
  #base: string | null;
  #heldBase: string | null;
  /** The next generation's file, as soon as there was room for it. */
  #spare: OpenGeneration | undefined;
  #room = Promise.withResolvers<void>();

  /** By Attachments, which has inserted the session's row. The overlay's open generation is `number`; it has no row yet. */
  constructor(
    parts: DiskWriterParts,
    {
      lease,
      overlay,
      number,
      base,
      closed,
    }: { lease: Lease; overlay: WritableOverlay; number: number; base: string | null; closed: () => void },
  ) {
    this.#parts = parts;
    this.#bounds = { ...defaultWriterBounds, ...parts.bounds };
    this.#overlay = overlay;
    this.#closed = closed;
    this.#number = number;
    this.#base = base;
    this.#heldBase = base;
    this.lease = lease;
    this.ended = lease.ended;
    this.diskId = lease.access.resourceId;
    this.sizeBytes = overlay.sizeBytes;
  }

  readNow(target: Uint8Array, offset: number): boolean {
    return !this.ended.aborted && this.#overlay.readNow(target, offset);
  }

  read(target: Uint8Array, offset: number, signal: AbortSignal): Promise<void> {
    return this.#answer(this.#overlay.read(target, offset, signal));
  }

  blockStatus(offset: number, length: number, maxRuns: number, signal: AbortSignal): Promise<BlockRun[]> {
    return this.#answer(this.#overlay.blockStatus(offset, length, maxRuns, signal));
  }

  write(data: Uint8Array, offset: number, fua: boolean, signal: AbortSignal): Promise<void> {
    return this.#change(signal, fua, () => this.#overlay.write(data, offset, fua, signal));
  }

  trim(offset: number, length: number, fua: boolean, signal: AbortSignal): Promise<void> {
    return this.#change(signal, fua, () => this.#overlay.trim(offset, length, fua, signal));
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions, signal: AbortSignal): Promise<void> {
    return this.#change(signal, options.fua, () => this.#overlay.writeZeroes(offset, length, options, signal));
  }

  async flush(signal: AbortSignal): Promise<void> {
    this.lease.assertHeld();
    await this.#answer(this.#overlay.flush(signal));
    this.lease.assertHeld();
  }

  async #change(signal: AbortSignal, fua: boolean, change: () => Promise<void>): Promise<void> {
    while (this.#gate !== undefined || !this.#isBegun || this.#isFull()) await this.#admit(signal);
    this.lease.assertHeld();
    this.#changesUnderWay += 1;
    try {
      await this.#answer(change());
    } finally {
      this.#changesUnderWay -= 1;
      if (this.#changesUnderWay === 0) this.#whenIdle?.();
    }
    if (fua) this.lease.assertHeld();
    const { openLogBytes, openIndexBytes } = this.#bounds;
    if (this.#overlay.openBytes > openLogBytes || this.#overlay.openIndexBytes > openIndexBytes) this.#wantSeal();
  }

  async #answer<Answer>(work: Promise<Answer>): Promise<Answer> {
    try {
      return await work;
    } catch (error) {
      if (error instanceof OverlayFailedError) this.lease.end(`disk ${this.diskId}: ${error.message}`);
      // Committed, the log goes, and there may be room again.
      if (error instanceof OverlayFullError) this.#wantSeal();
      throw asDeviceError(error);
    }
  }

  /** One of the things that a change may have to wait for. */
  async #admit(signal: AbortSignal): Promise<void> {
    this.lease.assertHeld();
    if (this.#isClosing) throw new BlockDeviceError('ESHUTDOWN', 'the export is closing');
    const ended = AbortSignal.any([signal, this.ended]);
    if (this.#gate !== undefined) return untilAborted(this.#gate, ended);
    if (!this.#isBegun) return untilAborted((this.#beginning ??= this.#begin()), ended);
    this.#wantSeal();
    return untilAborted(this.#room.promise, ended);
  }

  #isFull(): boolean {
    return this.#overlay.logBytes > this.#bounds.logBytes || this.#overlay.indexBytes > this.#bounds.indexBytes;
  }

  /** Generations of this session from here on are not for others to remove. */
  get openNumber(): number {
    return this.#number;
  }

  /** Resolves when it has left; undefined while it has not begun to. */
  get leaving(): Promise<void> | undefined {
    return this.#closing;
  }

  /** Whether `refresh` may have something to do. */
  get mayBeOutdated(): boolean {
    return this.#overlay.sealed.length > 0 || this.#heldBase !== this.#base || this.#spare === undefined;
  }

  get #key(): GenerationKey {
    return { diskId: this.diskId, generation: this.#number, writerId: this.lease.id };
  }

  async #begin(): Promise<void> {
    try {
      const row = { ...this.#key, machineId: this.#parts.machineId };
      const isBegun = await this.#throughOutages(() => this.#transaction((em) => beginGeneration(em, row)));
      if (!isBegun) this.#fenced();
      this.#isBegun = true;
    } finally {
      this.#beginning = undefined;
    }
  }

  /** Everything that was answered before the call lies in sealed generations when it resolves. @throws Error when the session ends. */
  async seal(): Promise<void> {
    // One that closes seals what it has; not waited for in the turn that it waits for itself.
    if (!(await this.#sealUnlessClosing())) await this.#closing;
  }

  #sealUnlessClosing(): Promise<boolean> {
    return this.#inTurn(async () => {
      if (this.#isClosing) return false;
      if (!this.#isBegun || this.#overlay.openIsEmpty) return true;
      const { diskId, lease } = this;
      const next = this.#spare ?? (await this.#createNext());
      this.#spare = undefined;
      const gate = Promise.withResolvers<void>();
      this.#gate = gate.promise;
      try {
        await this.#idle();
        await this.#overlay.rotate(next, (lengthBytes) => this.#commitSeal(lengthBytes));
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
    return createGeneration(file, key, this.sizeBytes);
  }

  /** When there is no room it is tried again later. */
  async #keepSpare(): Promise<void> {
    if (this.#spare !== undefined) return;
    try {
      this.#spare = await this.#createNext();
    } catch (error) {
      if (!(error instanceof OverlayFullError)) throw error;
    }
  }

  #wantSeal(): void {
    if (this.#sealWanted) return;
    this.#sealWanted = true;
    const { log, onSealed } = this.#parts;
    this.seal()
      .then(() => onSealed(this.diskId))
      .catch((error: unknown) => log.warn({ diskId: this.diskId, err: error }, 'a generation could not be sealed'))
      .finally(() => (this.#sealWanted = false));
  }

  async #commitSeal(lengthBytes: number): Promise<void> {
    const isSealed = await this.#throughOutages(() =>
      this.#transaction(async (em) => {
        await lockDiskRow(em, this.diskId);
        return sealGeneration(em, { ...this.#key, lengthBytes });
      }),
    );
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
      if (this.#isClosing) return;
      const state = await readState(this.#parts.fork(), this.diskId);
      if (state === undefined) return;
      const left = new Set(state.generations);
      const folded = this.#overlay.sealed.map(({ name }) => name.generation).filter((generation) => !left.has(generation));
      const through = folded.at(-1) ?? 0;
      if (through > 0 || state.layerRoot !== this.#base) {
        const { storage } = this.#parts;
        const root = state.layerRoot === null ? undefined : parsePageAddress(state.layerRoot);
        await this.#overlay.rebase(await openLayerView(storage, root, this.sizeBytes), through);
        this.#base = state.layerRoot;
        this.#room.resolve();
        this.#room = Promise.withResolvers();
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
    this.#isClosing = true;
    this.#closing ??= this.#close();
    return this.#closing;
  }

  #close(): Promise<void> {
    return this.#inTurn(async () => {
      const { log, files } = this.#parts;
      const { diskId, lease } = this;
      // A begin whose client has gone may still be under way.
      await this.#beginning?.catch(() => {});
      let isEmpty = false;
      let isSettled = false;
      try {
        const { lengthBytes, failure } = await this.#overlay.finish();
        if (failure !== undefined)
          log.warn({ diskId, lengthBytes, err: failure }, 'of a log that failed only what was synced counts');
        isEmpty = lengthBytes === logHeaderBytes;
        await this.#throughOutages(() => this.#transaction((em) => this.#leave(em, isEmpty, lengthBytes)));
        isSettled = true;
      } catch (error) {
        log.warn({ diskId, sessionId: lease.id, reason: (error as Error).message }, 'a disk was not detached in order');
      }
      try {
        await this.#overlay[Symbol.asyncDispose]();
      } catch (error) {
        log.warn({ diskId, err: error }, 'an overlay could not be closed');
      }
      await this.#spare?.[Symbol.asyncDispose]();
      const unused = [{ ...this.#key, generation: this.#number + 1 }];
      if (isSettled && isEmpty) unused.push(this.#key);
      await files.remove(unused).catch(() => {});
      lease.release();
      this.#closed();
      this.#parts.onSealed(diskId);
    });
  }

  /** Seal and end of the lease in one. */
  async #leave(em: EntityManager, isEmpty: boolean, lengthBytes: number): Promise<void> {
    const { generation, writerId } = this.#key;
    await lockDiskRow(em, this.diskId);
    // Also when it is not known to have begun: the commit of a begin may have been made though its answer was lost.
    if (isEmpty) await dropEmpty(em, this.diskId, generation, writerId);
    else if (!(await sealGeneration(em, { ...this.#key, lengthBytes }))) {
      throw new Error('the lease has ended before it was sealed');
    }
    await removeSessions(em, [this.lease.id]);
  }

  #fenced(): never {
    this.lease.end(`disk ${this.diskId}: the lease has ended, or the disk was deleted`);
    throw this.ended.reason as Error;
  }

  #inTurn<Answer>(work: () => Promise<Answer>): Promise<Answer> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  #transaction<Answer>(body: (em: EntityManager) => Promise<Answer>): Promise<Answer> {
    return this.#parts.fork().transactional(body);
  }

  /** Again while the database is away and the lease lasts. */
  async #throughOutages<Answer>(work: () => Promise<Answer>): Promise<Answer> {
    while (true) {
      try {
        return await work();
      } catch (error) {
        if (!isTransientDatabaseError(error) || !this.lease.isHeld) throw error;
        await delay(200);
      }
    }
  }
}

interface DiskState {
  layerRoot: string | null;
  generations: number[];
}

/** From one snapshot. */
async function readState(em: EntityManager, diskId: string): Promise<DiskState | undefined> {
  const [state] = await query<DiskState>(
    em,
    `select layer_root as "layerRoot",
       (select coalesce(array_agg(generation), '{}') from disk_generations where disk_id = disks.id) as generations
     from disks where id = $1`,
    [diskId],
  );
  return state;
}
