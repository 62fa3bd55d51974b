// Attach sessions on a real PostgreSQL and a store in a folder, without NBD: what one process has of them, as often as a test wants it.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { EntityManager } from '@mikro-orm/postgresql';
import { Attachments, type AttachmentsParts } from '../../src/attach/attachments.ts';
import { captureTargets } from '../../src/attach/capture-targets.ts';
import { type CaptureTargets, commitJob } from '../../src/attach/commit.job.ts';
import { GenerationFiles } from '../../src/attach/generation-files.ts';
import { Settlement } from '../../src/attach/settlement.ts';
import { query } from '../../src/db/bound-query.ts';
import { entities } from '../../src/entities.ts';
import { Admissions } from '../../src/gc/admission.ts';
import { bootstrap } from '../../src/iam/bootstrap.ts';
import type { BlockDevice } from '../../src/nbd/block-device.ts';
import { JobBell } from '../../src/operations/job-bell.ts';
import { Operations } from '../../src/operations/operations.ts';
import { Runner } from '../../src/operations/runner.ts';
import type { Log } from '../../src/platform/log.ts';
import { Turns } from '../../src/platform/turns.ts';
import { openStorage, type Storage } from '../../src/storage/open.ts';
import { eventually } from './attached-disk.ts';
import { insertDisk } from './disk-rows.ts';
import { randomFrom, testSeed } from './sample.ts';
import { MemoryLog, shortBounds } from './operations-kit.ts';
import { type TestOrm, testOrm } from './test-orm.ts';
import { everybodyMay } from './call.ts';

const MiB = 1024 * 1024;

export interface MachineOptions extends Pick<
  AttachmentsParts,
  'bounds' | 'indexBudget' | 'maxSessionsPerSubject' | 'admitChange' | 'audit'
> {
  targets?: CaptureTargets;
  /** False: nothing is settled or committed but by an opening. */
  settles?: boolean;
  /** For sessions, for settlements, and for commits. */
  forkOfSessions?: () => EntityManager;
  forkOfSettlement?: () => EntityManager;
  forkOfCommits?: () => EntityManager;
  /** Shared with another one that is to be the same process. */
  turns?: Turns;
}

export interface Machine extends AsyncDisposable {
  attachments: Attachments;
  /** Of its generations. */
  folder: string;
  files: GenerationFiles;
  log: MemoryLog;
  /** Begins to settle and commit, when it did not from the start. */
  settle(): void;
  open(diskId: string): Promise<BlockDevice>;
}

export class AttachKit implements AsyncDisposable {
  readonly signal = new AbortController().signal;
  readonly storage: Storage;
  readonly subjectId: string;
  /** The store's folder. */
  readonly blobs: string;
  readonly #database: TestOrm;
  readonly #folder: string;
  readonly #random = randomFrom(testSeed);
  #lastDisk = 0;

  private constructor(database: TestOrm, folder: string, storage: Storage, subjectId: string) {
    this.#database = database;
    this.#folder = folder;
    this.blobs = path.join(folder, 'blobs');
    this.storage = storage;
    this.subjectId = subjectId;
  }

  static async start(): Promise<AttachKit> {
    const database = await testOrm(entities);
    const folder = await mkdtemp(path.join(tmpdir(), 'obraz-attach-'));
    const storage = await openStorage({ directory: path.join(folder, 'blobs') });
    const { serviceAccountId } = await database.orm.em.fork().transactional((em) => bootstrap(em));
    return new AttachKit(database, folder, storage, serviceAccountId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.storage[Symbol.asyncDispose]();
    await this.#database[Symbol.asyncDispose]();
    await rm(this.#folder, { recursive: true, force: true });
  }

  fork = (): EntityManager => this.#database.orm.em.fork();

  sql = <Row>(text: string, values: unknown[] = []): Promise<Row[]> => query<Row>(this.fork(), text, values);

  /** All that a process has of it. */
  machine = async (machineId: string, options: MachineOptions = {}): Promise<Machine> => {
    const { fork, storage, subjectId } = this;
    const { targets = captureTargets(fork, storage), settles = true, bounds, indexBudget, turns = new Turns() } = options;
    const stack = new AsyncDisposableStack();
    const own = path.join(this.#folder, machineId);
    const files = await GenerationFiles.open(own, 'installation');
    const memory = new MemoryLog();
    const log = memory as unknown as Log;
    const bell = new JobBell(fork);
    const operations = new Operations({ bell, fork });
    let settlement: Settlement | undefined;
    const attachments = stack.use(
      new Attachments({
        access: everybodyMay,
        fork: options.forkOfSessions ?? fork,
        storage,
        files,
        machineId,
        turns,
        log,
        onSealed: () => settlement?.soon(),
        ...(bounds === undefined ? {} : { bounds }),
        ...(indexBudget === undefined ? {} : { indexBudget }),
        ...(options.maxSessionsPerSubject === undefined ? {} : { maxSessionsPerSubject: options.maxSessionsPerSubject }),
        ...(options.admitChange === undefined ? {} : { admitChange: options.admitChange }),
        ...(options.audit === undefined ? {} : { audit: options.audit }),
        renewMs: 100,
        recheckMs: 100,
      }),
    );
    const audit = options.audit === undefined ? {} : { audit: options.audit };
    const shared = { files, machineId, isWriting: attachments.isWriting, log, attachments, turns, ...audit };
    const admissions = new Admissions({ fork });
    const settle = (): void => {
      const ofSettlement = { ...shared, fork: options.forkOfSettlement ?? fork, operations, bell, subjectId, intervalMs: 200 };
      settlement = stack.use(new Settlement(ofSettlement));
      const handler = commitJob({
        ...shared,
        fork: options.forkOfCommits ?? fork,
        storage,
        admission: (writer) => admissions.of(writer),
        targets,
        commitTurns: new Turns(),
        onCommitting: settlement.committing,
      });
      const runner = new Runner({
        fork,
        bell,
        access: everybodyMay,
        handlers: [handler],
        concurrency: 2,
        log: memory,
        bounds: shortBounds,
      });
      stack.use(runner).start();
    };
    if (settles) settle();
    return {
      attachments,
      folder: path.join(own, 'generations', 'installation'),
      files,
      log: memory,
      settle,
      open: (diskId) => {
        const access = { subject: { id: subjectId, type: 'serviceAccount' }, tokenId: undefined, resourceId: diskId };
        return attachments.open({ ...access, mode: 'READ_WRITE' }, 'a test', this.signal);
      },
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    };
  };

  newDisk = async (size = 64 * MiB): Promise<string> => {
    const id = `epdtest${(this.#lastDisk += 1)}`;
    await insertDisk(this.fork(), id, { size });
    return id;
  };

  noise = (bytes: number): Buffer => {
    const buffer = Buffer.alloc(bytes);
    for (let at = 0; at + 4 <= bytes; at += 4) buffer.writeUInt32LE(this.#random() * 2 ** 32, at);
    return buffer;
  };

  machineOf = async (diskId: string): Promise<string | null> =>
    (await this.sql<{ machine_id: string | null }>('select machine_id from disks where id = $1', [diskId]))[0]!.machine_id;

  committed = (diskId: string): Promise<void> =>
    eventually('it is committed', async () => (await this.machineOf(diskId)) === null);
}

/** What it was refused with. */
export const refusal = (attempt: Promise<unknown>): Promise<string> =>
  attempt.then(
    () => 'it was not refused',
    (error: Error) => error.message,
  );
