// Leases and generations on a real PostgreSQL: what a writer may change, and what it may not any more.
import { randomUUID } from 'node:crypto';
import type { EntityManager } from '@mikro-orm/postgresql';
import { expect } from 'chai';
import { AttachSessionSchema } from '../../../src/attach/attach-session.entity.ts';
import { DiskGenerationSchema } from '../../../src/attach/disk-generation.entity.ts';
import {
  beginGeneration,
  discardGenerations,
  dropEmpty,
  generationsOf,
  generationsOfMachine,
  lockDiskRow,
  replaceWithBase,
  sealAbandoned,
  sealGeneration,
} from '../../../src/attach/generation-queries.ts';
import {
  insertSession,
  liveSessions,
  liveWriter,
  type NewSession,
  removeSessions,
  removeSessionsOfMachine,
  renewSessions,
} from '../../../src/attach/session-queries.ts';
import { query } from '../../../src/db/bound-query.ts';
import { DiskSchema } from '../../../src/disks/disk.entity.ts';
import { TransientError } from '../../../src/platform/errors.ts';
import { insertDisk } from '../../support/disk-rows.ts';
import { type TestOrm, testOrm } from '../../support/test-orm.ts';

describe('leases and generations', () => {
  let database: TestOrm;
  let diskId: string;

  const fork = (): EntityManager => database.orm.em.fork();
  const inTransaction = <Answer>(body: (em: EntityManager) => Promise<Answer>): Promise<Answer> => fork().transactional(body);
  const machineOf = async (id: string) =>
    (await query<{ machine_id: string }>(fork(), 'select machine_id from disks where id = $1', [id]))[0]?.machine_id;
  const endLease = (id: string) =>
    query(fork(), 'update attach_sessions set lease_until = clock_timestamp() where id = $1', [id]);

  before(async () => {
    database = await testOrm([DiskSchema, AttachSessionSchema, DiskGenerationSchema]);
  });
  after(() => database?.[Symbol.asyncDispose]());

  beforeEach(async () => {
    diskId = `epd${randomUUID().replaceAll('-', '').slice(0, 17)}`;
    await insertDisk(fork(), diskId, { layerRoot: 'base' });
  });

  const open = async (parts: Partial<NewSession> = {}, leaseMs?: number): Promise<NewSession> => {
    const session: NewSession = {
      id: randomUUID(),
      machineId: 'machine-a',
      resourceId: diskId,
      mode: 'READ_WRITE',
      subjectId: 'ajesubject',
      peer: '127.0.0.1:1',
      baseRoot: 'base',
      attachedBy: null,
      ...parts,
    };
    await inTransaction(async (em) => {
      await lockDiskRow(em, diskId);
      await insertSession(em, session, leaseMs);
    });
    return session;
  };

  const begin = ({ id, machineId }: NewSession, generation = 1) =>
    inTransaction((em) => beginGeneration(em, { diskId, generation, machineId, writerId: id }));

  const seal = (writerId: string, generation = 1, lengthBytes = 100) =>
    inTransaction((em) => sealGeneration(em, { diskId, generation, writerId, lengthBytes }));

  const fold = (generations: number[], base: string | null = 'base') =>
    inTransaction((em) => replaceWithBase(em, { diskId, base, generations, root: 'folded' }));

  it('knows the writer of a disk while its lease lasts', async () => {
    expect(await liveWriter(fork(), diskId)).to.equal(undefined);
    const session = await open({ peer: '10.0.0.1:7' });
    expect(await liveWriter(fork(), diskId)).to.deep.include({ id: session.id, peer: '10.0.0.1:7', machineId: 'machine-a' });
    await endLease(session.id);
    expect(await liveWriter(fork(), diskId)).to.equal(undefined);
  });

  it('lets one writer in, whoever tries at the same moment', async () => {
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => open()));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).to.have.length(1);
  });

  it('lets readers in by any number, beside a writer too', async () => {
    await open();
    for (let index = 0; index < 3; index += 1) await open({ mode: 'READ_ONLY' });
    expect(await liveSessions(fork(), { resourceId: diskId }, 10)).to.have.length(4);
    expect(await liveSessions(fork(), { resourceId: diskId }, 2)).to.have.length(2);
  });

  it('lets the next writer in when the lease of the first has ended, and the first never again', async () => {
    const first = await open();
    await endLease(first.id);
    expect(await renewSessions(fork(), [first.id])).to.deep.equal([{ id: first.id, held: false, renewed: false }]);
    expect(await begin(first)).to.equal(false);
    const second = await open({ machineId: 'machine-b' });
    expect(await renewSessions(fork(), [first.id, second.id])).to.have.deep.members([
      { id: first.id, held: false, renewed: false },
      { id: second.id, held: true, renewed: true },
    ]);
    expect(await begin(first)).to.equal(false);
    expect(await begin(second)).to.equal(true);
    expect(await seal(first.id)).to.equal(false);
    expect(await machineOf(diskId)).to.equal('machine-b');
  });

  it('renews what it can without waiting for a row that is locked', async () => {
    const locked = await open({ mode: 'READ_ONLY' });
    const free = await open({ mode: 'READ_ONLY' });
    await inTransaction(async (em) => {
      await query(em, 'select id from attach_sessions where id = $1 for update', [locked.id]);
      const answers = await renewSessions(fork(), [locked.id, free.id]);
      expect(answers).to.have.deep.members([
        { id: locked.id, held: true, renewed: false },
        { id: free.id, held: true, renewed: true },
      ]);
    });
  });

  it('names the machine in the disk with the first generation, and no more when none is left', async () => {
    const session = await open();
    expect(await machineOf(diskId)).to.equal(null);
    expect(await begin(session)).to.equal(true);
    // The answer of the first may have been lost.
    expect(await begin(session)).to.equal(true);
    expect(await machineOf(diskId)).to.equal('machine-a');
    expect(await generationsOfMachine(fork(), 'machine-a')).to.deep.include({
      diskId,
      generation: 1,
      state: 'OPEN',
      machineId: 'machine-a',
      writerId: session.id,
      lengthBytes: null,
    });
    await inTransaction((em) => dropEmpty(em, diskId, 1, session.id));
    expect(await machineOf(diskId)).to.equal(null);
    expect(await generationsOf(fork(), diskId)).to.deep.equal([]);
  });

  it('seals a generation once, at one length', async () => {
    const session = await open();
    await begin(session);
    expect(await seal(session.id, 1, 100)).to.equal(true);
    expect(await seal(session.id, 1, 200)).to.equal(false);
    const abandoned = { diskId, generation: 1, writerId: session.id, lengthBytes: 300 };
    expect(await inTransaction((em) => sealAbandoned(em, abandoned, 'machine-a'))).to.equal(false);
    expect(await generationsOf(fork(), diskId)).to.deep.include.members([
      { diskId, generation: 1, state: 'SEALED', machineId: 'machine-a', writerId: session.id, lengthBytes: 100 },
    ]);
  });

  it('lets only its machine seal what a writer without a lease left', async () => {
    const session = await open();
    await begin(session);
    await endLease(session.id);
    expect(await seal(session.id)).to.equal(false);
    const abandoned = { diskId, generation: 1, writerId: session.id, lengthBytes: 300 };
    expect(await inTransaction((em) => sealAbandoned(em, abandoned, 'machine-b'))).to.equal(false);
    expect(await inTransaction((em) => sealAbandoned(em, abandoned, 'machine-a'))).to.equal(true);
  });

  it('has at most one open generation of a disk', async () => {
    const session = await open();
    await begin(session, 1);
    const error = await begin(session, 2).catch((reason: unknown) => reason);
    expect(error).to.be.instanceOf(Error);
    await seal(session.id, 1);
    expect(await begin(session, 2)).to.equal(true);
  });

  it('puts a fold in the place of the generations it was made of, while the next one is written', async () => {
    const session = await open();
    await begin(session, 1);
    await seal(session.id, 1);
    await begin(session, 2);
    await fold([1]);
    expect(await generationsOf(fork(), diskId)).to.have.length(1);
    expect(await machineOf(diskId)).to.equal('machine-a');
    await seal(session.id, 2);
    await inTransaction((em) => replaceWithBase(em, { diskId, base: 'folded', generations: [2], root: 'again' }));
    expect(await machineOf(diskId)).to.equal(null);
    const [disk] = await query<{ layer_root: string }>(fork(), 'select layer_root from disks where id = $1', [diskId]);
    expect(disk).to.deep.equal({ layer_root: 'again' });
  });

  it('refuses a fold of another base, of other generations, of open ones, and of a disk that is gone, and changes nothing', async () => {
    const session = await open();
    await begin(session, 1);
    await seal(session.id, 1);
    await begin(session, 2);
    for (const attempt of [
      () => fold([1], 'other'),
      () => fold([1, 2]),
      () => fold([2]),
      () => fold([3]),
      () => fold([1], null),
    ]) {
      const error = await attempt().catch((reason: unknown) => reason);
      expect(error).to.be.instanceOf(TransientError);
    }
    expect(await generationsOf(fork(), diskId)).to.have.length(2);
    await query(fork(), 'delete from disks where id = $1', [diskId]);
    expect(await fold([1]).catch((reason: unknown) => reason)).to.be.instanceOf(TransientError);
  });

  it('frees all that a machine had open when its next process starts, and discards what a deleted disk had', async () => {
    const machineId = `machine-${randomUUID()}`;
    const session = await open({ machineId });
    await begin(session);
    await removeSessionsOfMachine(fork(), machineId);
    expect(await liveWriter(fork(), diskId)).to.equal(undefined);
    const next = await open({ machineId });
    expect(await seal(session.id)).to.equal(false);
    await inTransaction((em) => discardGenerations(em, diskId));
    expect(await generationsOf(fork(), diskId)).to.deep.equal([]);
    expect(await renewSessions(fork(), [next.id])).to.deep.equal([{ id: next.id, held: false, renewed: false }]);
    await removeSessions(fork(), [next.id]);
  });
});
