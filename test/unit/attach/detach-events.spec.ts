// The event of a writer's end on a real PostgreSQL: one for each session, whoever it is that ends it.
import { randomUUID } from 'node:crypto';
import { expect } from 'chai';
import {
  insertSession,
  type NewSession,
  removeExpiredSessions,
  removeSessionsOfMachine,
} from '../../../src/attach/session-queries.ts';
import { type AttachAudit, createAttachAudit } from '../../../src/audit/attach-audit.ts';
import { Places } from '../../../src/audit/places.ts';
import { Refusals } from '../../../src/audit/refusals.ts';
import { eventually } from '../../support/attached-disk.ts';
import { AttachKit } from '../../support/attach-kit.ts';
import { MemoryLog } from '../../support/operations-kit.ts';

describe('The event of a detach', function () {
  this.timeout(60_000);
  let kit: AttachKit;
  let audit: AttachAudit;
  before(async () => {
    kit = await AttachKit.start();
    const places = new Places();
    const { fork } = kit;
    const log = new MemoryLog();
    audit = createAttachAudit({
      places,
      refusals: new Refusals({ fork, places, log, onWritten: () => {}, onLeftOut: () => {} }),
    });
  });
  after(() => kit[Symbol.asyncDispose]());

  /** Names of events and their sessions, in no order. */
  const eventsOf = async (diskId: string): Promise<string[]> =>
    (
      await kit.sql<{ text: string }>(
        `select split_part(event ->> 'eventType', '.', 4) || ' ' || (event #>> '{details,sessionId}') || ' '
           || (event #>> '{requestMetadata,remoteAddress}') || ' ' || (event #>> '{authentication,subjectId}') as text
         from audit_events where event #>> '{details,diskId}' = $1`,
        [diskId],
      )
    ).map(({ text }) => text);

  /** The row of a writer that is gone. */
  const leave = async (diskId: string, more: Partial<NewSession> = {}): Promise<string> => {
    const id = randomUUID();
    const by = {
      subject: { id: 'ajegone', type: 'serviceAccount' },
      tokenId: 'a-token',
      resourceId: diskId,
      peer: '192.0.2.7:1',
    };
    const row = { machineId: 'gone', resourceId: diskId, mode: 'READ_WRITE', subjectId: 'ajegone', peer: by.peer } as const;
    await kit.fork().transactional((em) => insertSession(em, { id, ...row, baseRoot: null, attachedBy: by, ...more }, 0));
    return id;
  };
  const ended = (id: string): string => `DetachDisk ${id} 192.0.2.7:1 ajegone`;

  it('is left by a writer that leaves in order, and by one whose lease was lost and that others settle', async () => {
    for (const isLost of [false, true]) {
      await using here = await kit.machine(`audited-${isLost}`, { audit });
      const diskId = await kit.newDisk();
      const disk = await here.open(diskId);
      await disk.write(kit.noise(4096), 0, true, kit.signal);
      const [{ id }] = (await kit.sql<{ id: string }>('select id from attach_sessions where resource_id = $1', [diskId])) as [
        { id: string },
      ];
      if (isLost) {
        await kit.sql('update attach_sessions set lease_until = clock_timestamp() where id = $1', [id]);
        await eventually('it has ended', () => disk.ended.aborted);
      }
      await disk[Symbol.asyncDispose]();
      await kit.committed(diskId);
      const by = `${id} a test ${kit.subjectId}`;
      expect(await eventsOf(diskId)).to.have.members([`AttachDisk ${by}`, `DetachDisk ${by}`]);
    }
  });

  it('is left by the next writer of one whose lease has ended', async () => {
    await using here = await kit.machine('next', { audit });
    const diskId = await kit.newDisk();
    const gone = await leave(diskId);
    await using _disk = await here.open(diskId);
    const [detached, ...others] = (await eventsOf(diskId)).filter((text) => text.startsWith('Detach'));
    expect([detached, others]).to.deep.equal([ended(gone), []]);
  });

  it('is left by whoever removes what a process or a machine left, and by no reader', async () => {
    const [mine, other] = [await kit.newDisk(), await kit.newDisk()];
    const gone = await leave(mine, { machineId: 'started-again' });
    await leave(mine, { machineId: 'started-again', mode: 'READ_ONLY', attachedBy: null });
    const old = await leave(other);
    await kit.sql(`update attach_sessions set lease_until = clock_timestamp() - interval '1 hour' where id = $1`, [old]);
    for (let time = 0; time < 2; time += 1) {
      await kit.fork().transactional(async (em) => audit.detached(em, await removeSessionsOfMachine(em, 'started-again')));
      await kit.fork().transactional(async (em) => audit.detached(em, await removeExpiredSessions(em)));
    }
    expect([await eventsOf(mine), await eventsOf(other)]).to.deep.equal([[ended(gone)], [ended(old)]]);
  });
});
