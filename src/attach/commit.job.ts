// The job that puts what was written to a disk into its base: folds the sealed generations over the base into a new layer, then changes
// rows in one fenced transaction. With a target it is a capture: it seals first what a writer is writing, and the same transaction
// makes the snapshot or image READY, or hands the capture over to the job that verifies its layer first: that may take long, and holds
// up no commit of the disk. Its kind names the machine, since it reads that machine's files.
//
// A capture's moment is when it has sealed: the number of that generation is its first checkpoint. Until it has ended nothing beyond that
// goes into the base: commits leave the disk to captures, and captures wait for those of an earlier moment.
//
// Safe to run again at any point: until the transaction nothing is changed but sealed generations, and whoever comes after it finds other
// rows. A writer goes on all the time.
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import type { CaptureTarget } from '../disks/disk-contents.ts';
import type { JobHandler, RunningJob } from '../operations/job-handler.ts';
import type { Fence } from '../operations/job-queries.ts';
import type { JobOrder } from '../operations/operations.ts';
import { type PackedMessage, packedEmpty } from '../operations/pack.ts';
import { DomainError, notFound, TransientError } from '../platform/errors.ts';
import type { Turns } from '../platform/turns.ts';
import { parsePageAddress } from '../storage/address.ts';
import type { Admission } from '../storage/admission.ts';
import type { Storage } from '../storage/open.ts';
import { OverlayFullError } from '../storage/overlay/errors.ts';
import { fold, type FoldCheckpoint } from '../storage/overlay/fold.ts';
import { type Generation, openSealedGeneration } from '../storage/overlay/generation.ts';
import { chunkBytes } from '../storage/sizes.ts';
import type { Attachments } from './attachments.ts';
import { type GenerationRow, generationsOf, replaceWithBase, sealedThrough } from './generation-queries.ts';
import { OwnIndexes } from './index-budget.ts';
import { type SettleParts, settleDisk } from './settle.ts';

// A type, not an interface: it is kept as JSON.
export type CommitPayload = {
  diskId: string;
  target?: CaptureTarget;
};

export type CommitCheckpoint = {
  /** The generations up to and with this one are what is committed; for a capture its moment. */
  through: number;
  /** How far the fold over `base` had come. */
  fold?: { base: string | null; root: string; nextIndex: number };
};

/** What captures make. */
export interface CaptureTargets {
  /** The storage_size of the target when its layer is `root`. */
  measure(target: CaptureTarget, diskId: string, root: string | null, signal: AbortSignal): Promise<number>;
  /**
   * In the transaction that puts the layer into the disk: the target is READY, and the answer the operation's response; or it is the job
   * that is left to do.
   */
  finish(
    em: EntityManager,
    target: CaptureTarget,
    made: { root: string | null; storageSize: number },
  ): Promise<PackedMessage | JobOrder>;
  abandon(em: EntityManager, target: CaptureTarget): Promise<void>;
}

export interface CommitParts extends SettleParts {
  storage: Storage;
  admission: (writer: Fence) => Admission;
  attachments: Attachments;
  targets: CaptureTargets;
  /** Of a disk: openings, settlements, removals of files. */
  turns: Turns;
  /** Of a disk: commits. */
  commitTurns: Turns;
  /**
   * Told before the transaction that lets go of these generations; whether it did, the rows say. The disk's turn is to be given back
   * when the job has ended: the next commit would read what this one is about to change.
   */
  onCommitting: (operationId: string, generations: readonly GenerationRow[], turn: Disposable) => void;
}

/** Chunks at once of a commit that nobody waits for: the disk is the clients' first. */
const chunksInBackground = 4;
/** Generations that one commit takes: their files are open together. A capture takes all that come before it. */
const maxFolded = 256;

export const commitJobKind = (machineId: string): string => `disk.commit/${machineId}`;

interface Plan {
  base: string | null;
  sizeBytes: number;
  sealed: GenerationRow[];
}

export const commitJob = (parts: CommitParts): JobHandler<CommitPayload, CommitCheckpoint> => ({
  kind: commitJobKind(parts.machineId),
  run: (job) => commit(parts, job),
  async abandon(em, { target }) {
    if (target !== undefined) await parts.targets.abandon(em, target);
  },
});

async function commit(parts: CommitParts, job: RunningJob<CommitPayload, CommitCheckpoint>) {
  const { fork, commitTurns, targets } = parts;
  const { signal, payload } = job;
  const { diskId, target } = payload;
  let through = job.checkpoint?.through;
  if (target !== undefined && through === undefined) {
    // At once, whatever commits of the disk are under way.
    await sealNow(parts, diskId, signal);
    through = await sealedThrough(fork(), diskId);
    if (through === undefined) throw notFound('Disk', diskId);
    await job.saveCheckpoint({ through });
  }
  using turn = new DisposableStack();
  turn.use(await commitTurns.take(diskId, signal));
  // The writer reads what the commit before this one has made: only then may the base be changed again.
  await parts.attachments.writerOf(diskId)?.refresh();
  const plan = await planOf(fork(), diskId);
  const { base } = plan;
  through ??= plan.sealed.slice(0, maxFolded).at(-1)?.generation ?? 0;
  // After the plan: a capture that comes later seals later.
  if (await isHeldBack(fork(), job, through)) {
    if (target === undefined) return async () => packedEmpty;
    throw new TransientError(`Disk ${diskId} is being captured as it was a moment before`);
  }
  const sealed = plan.sealed.filter(({ generation }) => generation <= through);
  const folded = { ...plan, sealed };
  const made = await asPlanned(parts, job, folded, async () => {
    const root = sealed.length === 0 ? base : await foldAll(parts, job, folded, through);
    return { root, storageSize: target === undefined ? 0 : await targets.measure(target, diskId, root, signal) };
  });
  parts.onCommitting(job.operationId, sealed, turn.move());
  return async (em: EntityManager): Promise<PackedMessage | JobOrder> => {
    if (sealed.length > 0) {
      const generations = sealed.map(({ generation }) => generation);
      await replaceWithBase(em, { diskId, base, generations, root: made.root! });
    } else if (target !== undefined) await assertBase(em, diskId, base);
    return target === undefined ? packedEmpty : targets.finish(em, target, made);
  };
}

/** Whether captures are there that come first: for a commit any, for a capture those of an earlier moment. */
async function isHeldBack(
  em: EntityManager,
  { operationId, payload: { diskId, target } }: RunningJob<CommitPayload, CommitCheckpoint>,
  through: number,
): Promise<boolean> {
  const rows = await query(
    em,
    `select operation_id from jobs
     where kind like 'disk.commit/%' and payload ->> 'diskId' = $1 and payload -> 'target' is not null and operation_id <> $2
       and ($3 or (checkpoint ->> 'through')::int < $4)
     limit 1`,
    [diskId, operationId, target === undefined, through],
  );
  return rows.length > 0;
}

/** What is written now counts, and what a dead writer left. */
async function sealNow(parts: CommitParts, diskId: string, signal: AbortSignal): Promise<void> {
  const writer = parts.attachments.writerOf(diskId);
  try {
    await writer?.seal();
  } catch (error) {
    if (error instanceof OverlayFullError) throw new TransientError(error.message, { cause: error });
    throw new TransientError(`Disk ${diskId} could not be sealed; its connection has ended`, { cause: error });
  }
  using _turn = await parts.turns.take(diskId, signal);
  await settleDisk(parts, diskId, signal);
}

async function planOf(em: EntityManager, diskId: string): Promise<Plan> {
  // One transaction at one snapshot is not needed: the effect compares all of it.
  const [disk] = await query<{ base: string | null; sizeBytes: number }>(
    em,
    'select layer_root as base, size::float8 as "sizeBytes" from disks where id = $1',
    [diskId],
  );
  if (disk === undefined) throw notFound('Disk', diskId);
  const rows = await generationsOf(em, diskId);
  return { ...disk, sealed: rows.filter(({ state }) => state === 'SEALED') };
}

/**
 * A commit before this one may have given its turn back while its transaction was still under way. What it took away is not lost.
 * @throws what `work` throws; a TransientError instead when the disk is not as it was planned any more.
 */
async function asPlanned<Answer>(
  { fork }: CommitParts,
  { signal, payload: { diskId } }: RunningJob<CommitPayload, CommitCheckpoint>,
  { base, sealed }: Plan,
  work: () => Promise<Answer>,
): Promise<Answer> {
  try {
    return await work();
  } catch (error) {
    if (signal.aborted || error instanceof TransientError) throw error;
    // Damaged, or not there for whoever looked: rows change before anything is taken away.
    const now = await planOf(fork(), diskId);
    const isThere = (row: GenerationRow): boolean =>
      now.sealed.some(({ generation, writerId }) => generation === row.generation && writerId === row.writerId);
    if (now.base === base && sealed.every(isThere)) throw error;
    throw new TransientError(`Disk ${diskId} has changed meanwhile`, { cause: error });
  }
}

async function foldAll(
  parts: CommitParts,
  job: RunningJob<CommitPayload, CommitCheckpoint>,
  { base, sizeBytes, sealed }: Plan,
  through: number,
): Promise<string> {
  const { files, storage, admission, attachments } = parts;
  await using opened = new AsyncDisposableStack();
  const generations: Generation[] = [];
  // Indexes of its own: a commit waits for no memory, but writers wait for what it takes.
  const own = new OwnIndexes(generations);
  opened.defer(() => attachments.indexBudget.remove(own));
  for (const row of sealed) {
    generations.push(opened.use(await openSealedGeneration(files.of(row), row, row.lengthBytes!, job.signal)));
    attachments.indexBudget.note(own);
    // Reading a long log is getting on, too.
    attachments.indexBudget.moved();
  }
  // Awaited here: the files are open only inside this function.
  const { root } = await fold({
    storage,
    admission: admission(job),
    base: base === null ? undefined : parsePageAddress(base),
    generations,
    sizeBytes,
    resume: resumedFrom(job.checkpoint, base),
    onCheckpoint: ({ root: reached, nextIndex }) =>
      job.saveCheckpoint({ through, fold: { base, root: reached, nextIndex } }, { pinnedRoots: [reached] }),
    onProgress: ({ chunksDone, chunksTotal }) => {
      // Changes that wait for room wait on.
      attachments.indexBudget.moved();
      job.progress({ bytesDone: chunksDone * chunkBytes, bytesTotal: chunksTotal * chunkBytes, phase: 'committing' });
    },
    concurrency: job.payload.target === undefined ? chunksInBackground : undefined,
    signal: job.signal,
  });
  return root;
}

/** An earlier attempt's work counts when it was over the same base: generations up to the checkpoint's number never change. */
function resumedFrom(checkpoint: CommitCheckpoint | undefined, base: string | null): FoldCheckpoint | undefined {
  if (checkpoint?.fold === undefined || checkpoint.fold.base !== base) return undefined;
  return { root: parsePageAddress(checkpoint.fold.root), nextIndex: checkpoint.fold.nextIndex };
}

async function assertBase(em: EntityManager, diskId: string, base: string | null): Promise<void> {
  const [disk] = await query<{ base: string | null }>(em, 'select layer_root as base from disks where id = $1 for share', [
    diskId,
  ]);
  if (disk === undefined) throw new DomainError('NOT_FOUND', `Disk ${diskId} was deleted`);
  if (disk.base !== base) throw new TransientError(`Disk ${diskId} has changed meanwhile`);
}
