// Keeps this machine's disks moving towards their bases: settles what writers left, begins commits of what is sealed, lets files go that
// commits and deletes have left, and tells live writers of new bases. It runs soon after whatever calls for it, and every few seconds;
// all that it does is read off rows and files, so that nothing is lost by a crash. What waits for one disk or its files runs beside the
// loop: a long log, or a base that cannot be read, holds up no other disk.
import { setTimeout as delay } from 'node:timers/promises';
import { query } from '../db/bound-query.ts';
import type { JobBell } from '../operations/job-bell.ts';
import type { Operations } from '../operations/operations.ts';
import { packedEmpty } from '../operations/pack.ts';
import { Errands } from '../platform/errands.ts';
import type { Turns } from '../platform/turns.ts';
import type { Attachments } from './attachments.ts';
import { commitJobKind, type CommitPayload } from './commit.job.ts';
import type { GenerationFile } from './generation-files.ts';
import { type GenerationRow, generationsOf, generationsOfMachine } from './generation-queries.ts';
import { removeExpiredSessions } from './session-queries.ts';
import { isAbandoned, settleDisk, type SettleParts } from './settle.ts';
import type { WriterGenerations } from './writer-generations.ts';

export interface SettlementParts extends SettleParts {
  operations: Operations;
  bell: JobBell;
  attachments: Attachments;
  turns: Turns;
  /** In whose name commits are made. */
  subjectId: string;
  intervalMs?: number;
}

const defaultIntervalMs = 5_000;
const sweepMs = 60_000;
/** A file without a row is garbage when it is older: a row may be about to be committed. */
const garbageAgeMs = 60_000;
/** A commit's transaction takes less. */
const maxTurnMs = 5_000;
/** Logs that are read at once: what each of them is indexed by takes memory. */
const recoveriesAtOnce = 4;
const refreshesAtOnce = 4;
const removalsAtOnce = 4;
const firstBackOffMs = 10_000;
const maxBackOffMs = 10 * 60_000;

interface BackOff {
  untilMs: number;
  nextMs: number;
}

export class Settlement implements AsyncDisposable {
  readonly #parts: SettlementParts;
  readonly #stop = new AbortController();
  readonly #running: Promise<unknown>;
  readonly #subscription: Disposable;
  /** Commits whose transaction may have been made, by operation. */
  readonly #committing = new Map<string, { generations: readonly GenerationRow[]; turn: Disposable }>();
  /** Commits of this process's making, the disk by the operation. */
  readonly #begun = new Map<string, string>();
  readonly #backOffs = new Map<string, BackOff>();
  readonly #recoveries = new Errands(recoveriesAtOnce);
  readonly #refreshes = new Errands(refreshesAtOnce);
  /** Apart: they wait for the turns of disks that are being recovered. */
  readonly #removals = new Errands(removalsAtOnce);
  #hinted = Promise.withResolvers<void>();
  #sweptAtMs = -Infinity;

  /** Runs until it is disposed of. */
  constructor(parts: SettlementParts) {
    this.#parts = parts;
    this.#subscription = parts.bell.subscribe({
      onWork: () => {},
      onCancel: () => {},
      onEnded: (operationId) => this.#ended(operationId),
    });
    this.#running = this.#loop();
  }

  /** Something was sealed, or a writer has gone. */
  soon = (): void => this.#hinted.resolve();

  /** For the job, before its transaction. */
  committing = (operationId: string, generations: readonly GenerationRow[], turn: Disposable): void => {
    // An attempt that is lost, or tried again later, ends nothing.
    setTimeout(() => turn[Symbol.dispose](), maxTurnMs).unref();
    this.#committing.set(operationId, { generations, turn });
  };

  #ended(operationId: string): void {
    const begunFor = this.#begun.get(operationId);
    this.#begun.delete(operationId);
    const committed = this.#committing.get(operationId);
    if (committed === undefined) {
      // It ended before it had anything to commit: it failed, or left it to a capture.
      if (begunFor !== undefined) this.#backOff(begunFor);
      return;
    }
    const { generations, turn } = committed;
    this.#committing.delete(operationId);
    turn[Symbol.dispose]();
    this.#afterCommit(generations).catch((error: unknown) => this.#failed(error, 'what a commit left could not be cleared away'));
  }

  /** The writer moves over first; then the files can go. */
  async #afterCommit(generations: readonly GenerationRow[]): Promise<void> {
    const diskId = generations[0]?.diskId;
    if (diskId === undefined) return;
    const { attachments, files, turns, fork } = this.#parts;
    await attachments.writerOf(diskId)?.refresh();
    using _turn = await turns.take(diskId, this.#stop.signal);
    const left = await generationsOf(fork(), diskId);
    const isLeft = (row: GenerationRow) =>
      left.some(({ generation, writerId }) => generation === row.generation && writerId === row.writerId);
    const gone = generations.filter((row) => !isLeft(row));
    await files.remove(gone);
    if (gone.length === generations.length) this.#backOffs.delete(diskId);
    else this.#backOff(diskId);
    // What was sealed meanwhile.
    if (left.length > 0) this.soon();
  }

  #backOff(diskId: string): void {
    const { nextMs } = this.#backOffs.get(diskId) ?? { nextMs: firstBackOffMs };
    this.#backOffs.set(diskId, { untilMs: performance.now() + nextMs, nextMs: Math.min(nextMs * 2, maxBackOffMs) });
  }

  async #loop(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      this.#hinted = Promise.withResolvers();
      try {
        await this.#lookAtAll();
        if (performance.now() - this.#sweptAtMs > sweepMs) await this.#sweep();
      } catch (error) {
        if (!signal.aborted) this.#failed(error, 'disks could not be settled; trying again');
      }
      const over = new AbortController();
      const pause = delay(this.#parts.intervalMs ?? defaultIntervalMs, undefined, {
        signal: AbortSignal.any([signal, over.signal]),
      }).catch(() => {});
      await Promise.race([pause, this.#hinted.promise]);
      over.abort();
    }
  }

  async #lookAtAll(): Promise<void> {
    const { fork, machineId, attachments } = this.#parts;
    const rows = await generationsOfMachine(fork(), machineId);
    for (const [diskId, generations] of Map.groupBy(rows, (row) => row.diskId)) {
      this.#stop.signal.throwIfAborted();
      if ((this.#backOffs.get(diskId)?.untilMs ?? 0) > performance.now()) continue;
      if (generations.some((row) => isAbandoned(this.#parts, row))) this.#recoveries.begin(diskId, () => this.#settle(diskId));
      else if (generations.some(({ state }) => state === 'SEALED')) await this.#commit(diskId);
    }
    // Idle writers hold memory that nobody asks for until somebody wants to write.
    attachments.indexBudget.relieve();
    for (const writer of attachments.writers()) {
      if (writer.mayBeOutdated) this.#refreshes.begin(writer.diskId, () => this.#refresh(writer));
    }
  }

  async #refresh(writer: WriterGenerations): Promise<void> {
    try {
      await writer.refresh();
    } catch (error) {
      this.#failed(error, `the writer of disk ${writer.diskId} could not take up what was committed`);
    }
  }

  async #settle(diskId: string): Promise<void> {
    try {
      using _turn = await this.#parts.turns.take(diskId, this.#stop.signal);
      await settleDisk(this.#parts, diskId, this.#stop.signal);
      // The next look begins its commit.
      this.soon();
    } catch (error) {
      this.#unsettled(diskId, error);
    }
  }

  async #commit(diskId: string): Promise<void> {
    try {
      await this.#beginCommit(diskId);
    } catch (error) {
      this.#unsettled(diskId, error);
    }
  }

  #unsettled(diskId: string, error: unknown): void {
    this.#backOff(diskId);
    this.#failed(error, `disk ${diskId} could not be settled`);
  }

  /** Unless one is there that has not ended; a capture commits, too. */
  async #beginCommit(diskId: string): Promise<void> {
    const { fork, operations, machineId, subjectId } = this.#parts;
    const kind = commitJobKind(machineId);
    const there = await query(fork(), `select operation_id from jobs where kind = $1 and payload ->> 'diskId' = $2 limit 1`, [
      kind,
      diskId,
    ]);
    if (there.length > 0) return;
    const payload: CommitPayload = { diskId };
    const { id } = await operations.beginOwn(subjectId, async (em) => {
      const [disk] = await query<{ folderId: string }>(em, 'select folder_id as "folderId" from disks where id = $1', [diskId]);
      return {
        folderId: disk?.folderId ?? '',
        // Its own: clients list the operations of the disk, and did not ask for this one.
        resourceId: `commit/${diskId}`,
        resourceKind: 'compute.disk',
        description: 'Commit disk',
        metadata: packedEmpty,
        job: { kind, payload },
      };
    });
    this.#begun.set(id, diskId);
  }

  /** Files that no row names, of writers that are gone or are past them; and rows of sessions of machines that died. */
  async #sweep(): Promise<void> {
    const { fork, files, machineId, attachments, audit } = this.#parts;
    // Files first: what is made after this look is not in the list.
    const found = await files.list();
    // Asked before the rows are: a file whose writer is past it now gets no row any more, while one that is open now may have got one and
    // be past it by then.
    const left = found.filter((each) => each.ageMs > garbageAgeMs && !attachments.mayWriteTo(each.diskId, each));
    const rows = await generationsOfMachine(fork(), machineId);
    const named = new Set(rows.map((row) => files.of(row)));
    const unnamed = Map.groupBy(
      left.filter(({ file }) => !named.has(file)),
      (each) => each.diskId,
    );
    for (const [diskId, each] of unnamed) this.#removals.begin(diskId, () => this.#remove(diskId, each));
    const there = new Set(found.map(({ file }) => file));
    for (const row of rows) {
      if (!there.has(files.of(row)) && !attachments.mayWriteTo(row.diskId, row)) {
        this.#parts.log.error(
          { diskId: row.diskId, generation: row.generation, file: files.of(row) },
          'a file that holds what was written to a disk is missing',
        );
      }
    }
    await fork().transactional(async (em) => {
      const ended = await removeExpiredSessions(em);
      await audit?.detached(em, ended);
    });
    this.#sweptAtMs = performance.now();
  }

  async #remove(diskId: string, unnamed: readonly GenerationFile[]): Promise<void> {
    try {
      // Whoever opens the disk may have read rows that named them.
      using _turn = await this.#parts.turns.take(diskId, this.#stop.signal);
      await this.#parts.files.remove(unnamed);
    } catch (error) {
      this.#failed(error, `files that are left of disk ${diskId} could not be removed`);
    }
  }

  #failed(error: unknown, message: string): void {
    if (!this.#stop.signal.aborted) this.#parts.log.warn({ err: error }, message);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('the service is stopping'));
    this.#subscription[Symbol.dispose]();
    this.#hinted.resolve();
    await this.#running;
    for (const errands of [this.#recoveries, this.#refreshes, this.#removals]) await errands.ended();
  }
}
