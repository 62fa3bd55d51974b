// What this process has open: it opens sessions, keeps their leases, asks every few seconds whether they may go on, and knows which writers
// are alive, so that what others left can be settled.
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { type EntityManager, LockMode } from '@mikro-orm/postgresql';
import type { AttachedBy } from '../audit/attach-audit.ts';
import { Disk } from '../disks/disk.entity.ts';
import type { AccessRules } from '../iam/access-control.ts';
import type { Subject } from '../iam/call.ts';
import type { BlockDevice } from '../nbd/block-device.ts';
import { codeNumbers } from '../operations/status.mapper.ts';
import { DomainError, failedPrecondition, notFound } from '../platform/errors.ts';
import type { Turns } from '../platform/turns.ts';
import { untilAborted } from '../platform/until-aborted.ts';
import { parsePageAddress } from '../storage/address.ts';
import { openLayerView } from '../storage/layer-view.ts';
import { createGeneration, type Generation, openSealedGeneration } from '../storage/overlay/generation.ts';
import { openWritableOverlay } from '../storage/overlay/writable-overlay.ts';
import { type Access, type AccessReader, checkAccess, checkAccesses } from './access.ts';
import { DiskWriter } from './disk-writer.ts';
import { type GenerationRow, generationsOf } from './generation-queries.ts';
import { IndexBudget, type IndexBudgetBounds, OwnIndexes } from './index-budget.ts';
import { LayerReader } from './layer-reader.ts';
import { Lease } from './lease.ts';
import { type Attachable, describe, lockReady } from './resources.ts';
import { insertSession, liveWriter, type NewSession, removeSessions, renewSessions, type SessionRow } from './session-queries.ts';
import { settleDisk } from './settle.ts';
import { defaultWriterBounds, type WriterBounds } from './write-room.ts';
import { WriterGenerations, type WriterGenerationsParts } from './writer-generations.ts';

export interface AttachmentsParts extends WriterGenerationsParts {
  access: AccessRules;
  /** One per process: openings and settlements of a disk, and removals of its files, run one after another. */
  turns: Turns;
  bounds?: Partial<WriterBounds>;
  indexBudget?: Partial<IndexBudgetBounds>;
  /** Exports that one subject may have open here. */
  maxSessionsPerSubject?: number;
  /** Asked before something is opened for writing, which leaves rows as a change does. @throws DomainError RESOURCE_EXHAUSTED. */
  admitChange?: ((subjectId: string) => void) | undefined;
  renewMs?: number;
  recheckMs?: number;
}

const defaultRenewMs = 5_000;
const retryMs = 1_000;
const defaultRecheckMs = 2_000;
/** A writer that is about to leave is waited for so long: its client's goodbye may still be under way. */
const leavingMs = 2_000;
const leavingPollMs = 100;
/** A disk that has more which are not committed is not opened for writing. */
const maxGenerations = 1_024;
/** Sessions of one process. */
const maxSessions = 4_096;
/** Three quarters of the connections that the server takes. */
const defaultMaxSessionsPerSubject = 384;

interface Opened {
  lease: Lease;
  session: NewSession;
}

export class Attachments implements AsyncDisposable {
  readonly #parts: AttachmentsParts;
  readonly #leases = new Map<string, Lease>();
  /** Sessions whose writer may still append: from before its first file until after its last. */
  readonly #writing = new Set<string>();
  readonly #writers = new Map<string, WriterGenerations>();
  readonly indexBudget: IndexBudget;
  readonly #stop = new AbortController();
  readonly #loops: Promise<unknown>;

  constructor(parts: AttachmentsParts) {
    this.#parts = parts;
    this.indexBudget = new IndexBudget(parts.indexBudget);
    this.#loops = Promise.all([
      this.#every(parts.renewMs ?? defaultRenewMs, () => this.#renew()),
      this.#every(parts.recheckMs ?? defaultRecheckMs, () => this.#recheck()),
    ]);
  }

  /** Whether a session of this process may still append to its generation. */
  isWriting = (sessionId: string): boolean => this.#writing.has(sessionId);

  /** What its writer of this process makes of a disk's generations, until it has left. */
  writerOf(diskId: string): WriterGenerations | undefined {
    return this.#writers.get(diskId);
  }

  writers(): WriterGenerations[] {
    return [...this.#writers.values()];
  }

  /** Whether a session of this process may still use that file of its own. */
  mayWriteTo(diskId: string, { writerId, generation }: { writerId: string; generation: number }): boolean {
    if (!this.#writing.has(writerId)) return false;
    const writer = this.#writers.get(diskId);
    return writer === undefined || writer.lease.id !== writerId || generation >= writer.openNumber;
  }

  get count(): number {
    return this.#leases.size;
  }

  /**
   * Opens what the access names; disposing of the device ends the session.
   * @throws DomainError as checkAccess; FAILED_PRECONDITION when the disk has a writer or lies on another machine;
   *   RESOURCE_EXHAUSTED.
   */
  async open(access: Access, peer: string, signal: AbortSignal): Promise<BlockDevice> {
    if (this.#leases.size >= maxSessions)
      throw new DomainError('RESOURCE_EXHAUSTED', `more than ${maxSessions} exports are open`);
    this.#assertRoomFor(access.subject);
    if (access.mode === 'READ_WRITE') this.#parts.admitChange?.(access.subject.id);
    try {
      return await this.#open(access, peer, signal);
    } catch (error) {
      if (access.mode === 'READ_WRITE' && error instanceof DomainError) {
        this.#parts.audit?.refused({ ...access, peer }, error, codeNumbers[error.code]);
      }
      throw error;
    }
  }

  async #open(access: Access, peer: string, signal: AbortSignal): Promise<BlockDevice> {
    const attachable = await checkAccess(this.#reader(), access);
    return access.mode === 'READ_WRITE'
      ? this.#openNextWriter(access, peer, signal)
      : this.#openReader(access, attachable, peer, signal);
  }

  #reader(): AccessReader {
    return { em: this.#parts.fork(), rules: this.#parts.access };
  }

  /** One subject must not take all connections: a public image can be opened by everybody. */
  #assertRoomFor({ id, type }: Subject): void {
    const most = this.#parts.maxSessionsPerSubject ?? defaultMaxSessionsPerSubject;
    let count = 0;
    for (const { access } of this.#leases.values()) if (access.subject.id === id && access.subject.type === type) count += 1;
    if (count >= most) {
      throw new DomainError(
        'RESOURCE_EXHAUSTED',
        `${type} ${id} has ${count} exports open, as many as one may have: close some first`,
      );
    }
  }

  async #openReader(access: Access, attachable: Attachable, peer: string, signal: AbortSignal): Promise<BlockDevice> {
    const { storage } = this.#parts;
    const { lease, session } = await this.#insert(access, peer, (em) => readableRoot(em, attachable));
    try {
      const root = session.baseRoot === null ? undefined : parsePageAddress(session.baseRoot);
      const view = await openLayerView(storage, root, attachable.sizeBytes, signal);
      return new LayerReader(view, lease, () => this.#close(lease));
    } catch (error) {
      await this.#close(lease);
      throw error;
    }
  }

  /** Hands the disk over from one writer to the next: clients neither wait for their goodbye's answer nor know what it takes to leave. */
  async #openNextWriter(access: Access, peer: string, signal: AbortSignal): Promise<BlockDevice> {
    const deadline = performance.now() + leavingMs;
    while (true) {
      try {
        return await this.#openWriter(access, peer, signal);
      } catch (error) {
        if (!(error instanceof DiskHasWriter)) throw error;
        const leaving = this.#writers.get(access.resourceId)?.leaving;
        if (leaving === undefined && performance.now() >= deadline) throw error;
        // One that leaves is gone in milliseconds, or when its lease has ended.
        await untilAborted(leaving ?? delay(leavingPollMs, undefined, { signal }), signal);
      }
    }
  }

  async #openWriter(access: Access, peer: string, signal: AbortSignal): Promise<BlockDevice> {
    const { files, storage, turns } = this.#parts;
    const diskId = access.resourceId;
    // Commits take their files away in a turn too: what the rows name is there while this one lasts.
    using _turn = await turns.take(diskId, signal);
    await settleDisk({ ...this.#parts, isWriting: this.isWriting }, diskId, signal);
    // Base and generations are of one moment: a commit may change both at any time, and what it has committed is in the base alone.
    let size = 0;
    let lastGeneration = 0;
    let rows: GenerationRow[] = [];
    const { lease, session } = await this.#insert(access, peer, async (em) => {
      const writable = await this.#lockWritable(em, diskId);
      ({ size, lastGeneration } = writable.disk);
      rows = writable.generations;
      return writable.disk.layerRoot ?? null;
    });
    await using undo = new AsyncDisposableStack();
    undo.defer(() => this.#close(lease));
    const sealed: Generation[] = [];
    // Until the writer counts them: many disks may be opened at once.
    const own = new OwnIndexes(sealed);
    using _counted = { [Symbol.dispose]: () => this.indexBudget.remove(own) };
    for (const row of rows) {
      sealed.push(undo.use(await openSealedGeneration(files.of(row), row, row.lengthBytes!, signal)));
      this.indexBudget.note(own);
      if (this.indexBudget.isSpent) throw isBeingCommitted(diskId);
    }
    const number = Math.max(rows.at(-1)?.generation ?? 0, lastGeneration) + 1;
    const key = { diskId, generation: number, writerId: lease.id };
    const open = undo.use(await createGeneration(files.of(key), key, size));
    const root = session.baseRoot === null ? undefined : parsePageAddress(session.baseRoot);
    const base = await openLayerView(storage, root, size, signal);
    const overlay = openWritableOverlay({ storage, base, sealed, open, sizeBytes: size });
    undo.move();
    const closed = (): void => {
      // The next writer may be there already: the lease goes before the files are closed.
      if (this.#writers.get(diskId) === writer) this.#writers.delete(diskId);
      this.#writing.delete(lease.id);
      this.#leases.delete(lease.id);
    };
    const budget = this.indexBudget;
    const opened = { lease, overlay, number, base: session.baseRoot, budget, closed };
    const writer: WriterGenerations = new WriterGenerations(this.#parts, opened);
    this.#writers.set(diskId, writer);
    try {
      await writer.refresh();
      const bounds = { ...defaultWriterBounds, ...this.#parts.bounds };
      return new DiskWriter(writer, { bounds, budget, log: this.#parts.log });
    } catch (error) {
      await writer[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The disk, locked, when a writer may begin: nobody else writes, and all that was written lies here, sealed. */
  async #lockWritable(em: EntityManager, diskId: string): Promise<{ disk: Disk; generations: GenerationRow[] }> {
    const disk = await em.findOne(Disk, { id: diskId }, { lockMode: LockMode.PESSIMISTIC_WRITE });
    if (disk === null) throw notFound('Disk', diskId);
    const writer = await liveWriter(em, diskId);
    if (writer !== undefined) throw attachedElsewhere(writer);
    const generations = await generationsOf(em, diskId);
    const foreign = generations.find(({ machineId }) => machineId !== this.#parts.machineId);
    if (foreign !== undefined) throw liesElsewhere(foreign);
    // Commits need no writer: the disk can be opened again when they have caught up.
    if (generations.length > 0 && (generations.length >= maxGenerations || this.indexBudget.isSpent))
      throw isBeingCommitted(diskId);
    // Settled just before: of a writer that came and went meanwhile, or of one whose lease has ended and that is still leaving.
    if (generations.some(({ state }) => state === 'OPEN'))
      throw new DiskHasWriter('FAILED_PRECONDITION', `Disk ${diskId} is being detached; try again`);
    return { disk, generations };
  }

  /** The session's row and lease. `lock` locks the resource's row, may refuse, and answers the root that is read. */
  async #insert(access: Access, peer: string, lock: (em: EntityManager) => Promise<string | null>): Promise<Opened> {
    const { fork, machineId, audit } = this.#parts;
    const { resourceId, mode, subject } = access;
    const id = randomUUID();
    const askedAtMs = performance.now();
    if (mode === 'READ_WRITE') this.#writing.add(id);
    try {
      const session = await fork().transactional(async (em) => {
        const baseRoot = await lock(em);
        const attachedBy = mode === 'READ_WRITE' ? toAttachedBy(access, peer) : null;
        const row = { id, machineId, resourceId, mode, subjectId: subject.id, peer, baseRoot, attachedBy };
        const replaced = await insertSession(em, row);
        await audit?.detached(em, replaced);
        if (attachedBy !== null) await audit?.attached(em, attachedBy, id);
        return row;
      });
      const lease = new Lease(id, access, askedAtMs);
      this.#leases.set(id, lease);
      return { lease, session };
    } catch (error) {
      this.#writing.delete(id);
      throw error;
    }
  }

  /** Of a session that has no writer (any more). */
  async #close(lease: Lease): Promise<void> {
    lease.release();
    this.#leases.delete(lease.id);
    // When the database is away the lease ends by itself.
    const { fork, audit } = this.#parts;
    await fork()
      .transactional(async (em) => {
        const ended = await removeSessions(em, [lease.id]);
        await audit?.detached(em, ended);
      })
      .catch(() => {});
    this.#writing.delete(lease.id);
  }

  async #every(intervalMs: number, work: () => Promise<boolean>): Promise<void> {
    const { signal } = this.#stop;
    let pauseMs = intervalMs;
    while (true) {
      await delay(pauseMs, undefined, { signal, ref: false }).catch(() => {});
      if (signal.aborted) return;
      const isDone = await work().catch((error: unknown) => {
        this.#parts.log.warn({ reason: (error as Error).message }, 'sessions could not be kept; trying again');
        return false;
      });
      pauseMs = isDone ? intervalMs : Math.min(intervalMs, retryMs);
    }
  }

  /** False when it must be tried again soon. */
  async #renew(): Promise<boolean> {
    const ids = [...this.#leases].filter(([, lease]) => !lease.ended.aborted).map(([id]) => id);
    if (ids.length === 0) return true;
    const askedAtMs = performance.now();
    let isDone = true;
    for (const { id, held, renewed } of await renewSessions(this.#parts.fork(), ids)) {
      const lease = this.#leases.get(id);
      // A session that has closed meanwhile has removed its row.
      if (lease === undefined) continue;
      if (renewed) lease.renewed(askedAtMs);
      else if (held) isDone = false;
      else lease.end(`session ${id} has no lease any more`);
    }
    return isDone;
  }

  /** Ends what its subject may not have open any more, and what is gone. */
  async #recheck(): Promise<boolean> {
    const leases = [...this.#leases.values()].filter(({ ended }) => !ended.aborted);
    if (leases.length === 0) return true;
    const outcomes = await checkAccesses(
      this.#reader(),
      leases.map(({ access }) => access),
    );
    for (const [index, outcome] of outcomes.entries()) {
      if (outcome instanceof DomainError) leases[index]!.end(outcome.message);
    }
    return true;
  }

  /** After all devices are disposed of. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loops;
    for (const lease of this.#leases.values()) lease.end('the service is stopping');
  }
}

/** Without the groups of users, of which there may be many. */
const toAttachedBy = ({ subject: { id, type }, tokenId, resourceId }: Access, peer: string): AttachedBy => ({
  subject: { id, type },
  tokenId,
  resourceId,
  peer,
});

/** In the session's transaction: while the row is locked its root cannot be let go, and afterwards the session holds it. */
async function readableRoot(em: EntityManager, attachable: Attachable): Promise<string | null> {
  if (attachable.kind !== 'disk') {
    if (!(await lockReady(em, attachable))) throw notFound(describe({ ...attachable, id: '' }).trim(), attachable.id);
    return attachable.layerRoot;
  }
  const disk = await em.findOne(Disk, { id: attachable.id }, { lockMode: LockMode.PESSIMISTIC_READ });
  if (disk === null) throw notFound('Disk', attachable.id);
  // Who that is, and where, is told to those who may write it themselves.
  if ((await liveWriter(em, disk.id)) !== undefined) {
    throw failedPrecondition(`${describe(attachable)} is attached for writing: open it for reading when it is detached`);
  }
  if (disk.machineId !== null && disk.machineId !== undefined) {
    throw failedPrecondition(
      `${describe(attachable)} holds data that machine ${disk.machineId} is committing: open it when that has ended, in a moment`,
    );
  }
  return disk.layerRoot ?? null;
}

const isBeingCommitted = (diskId: string): DomainError =>
  failedPrecondition(`Disk ${diskId} holds data that is being committed: open it when that has ended, in a moment`);

class DiskHasWriter extends DomainError {}

const attachedElsewhere = ({ resourceId, peer, machineId, subjectId, createdAt }: SessionRow): DomainError =>
  new DiskHasWriter(
    'FAILED_PRECONDITION',
    `Disk ${resourceId} is attached for writing since ${createdAt.toISOString()} by ${peer} (subject ${subjectId}) at machine ${machineId}: one writer at a time; detach it there first`,
  );

const liesElsewhere = ({ diskId, machineId }: GenerationRow): DomainError =>
  failedPrecondition(
    `Disk ${diskId} was written at machine ${machineId}, which holds data that is not committed yet: start that machine's service, or attach it there; once it has committed, the disk can be attached anywhere`,
  );
