// Readers of events on a real database: numbers, what is committed late, what is removed, and what a file is left with.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../../../src/db/bound-query.ts';
import { entities } from '../../../src/entities.ts';
import type { AuditEventJson } from '../../../src/audit/event.ts';
import {
  eventsAfter,
  insertEvent,
  insertWholeEvent,
  positionBeforeLast,
  removeOldEvents,
} from '../../../src/audit/event-queries.ts';
import { writeEvents } from '../../../src/audit/file-sink.ts';
import { readEvents } from '../../../src/audit/read-events.ts';
import { Places } from '../../../src/audit/places.ts';
import { Refusals } from '../../../src/audit/refusals.ts';
import { MemoryLog } from '../../support/operations-kit.ts';
import { testOrm, type TestOrm } from '../../support/test-orm.ts';

const places = new Places();

const event = (eventId: string, minutesAgo = 0): AuditEventJson => ({
  eventId,
  eventSource: 'compute',
  eventType: 'yandex.cloud.audit.compute.CreateImage',
  eventTime: new Date(Date.now() - minutesAgo * 60_000).toISOString(),
  authentication: { authenticated: false },
  authorization: { authorized: true },
  resourceMetadata: { path: [] },
  requestMetadata: {},
  eventStatus: 'DONE',
  details: {},
  requestParameters: {},
});

describe('Readers of audit events', () => {
  let database: TestOrm;
  let folder: string;
  const fork = (): EntityManager => database.orm.em.fork();
  before(async () => {
    database = await testOrm(entities);
    folder = await mkdtemp(path.join(tmpdir(), 'obraz-audit-'));
  });
  after(async () => {
    await rm(folder, { recursive: true, force: true });
    await database[Symbol.asyncDispose]();
  });
  beforeEach(() => query(fork(), 'truncate audit_events'));

  const add = (...ids: string[]) => Promise.all(ids.map((id, index) => insertWholeEvent(fork(), event(id, 10 - index))));
  const idsAfter = async (position: number, limit = 100): Promise<string[]> =>
    (await eventsAfter(fork(), position, limit)).map(({ event: { eventId } }) => eventId);

  it('see events by their time, and one that is committed late after what was seen before', async () => {
    await add('a', 'b');
    const committing = Promise.withResolvers<void>();
    const written = Promise.withResolvers<void>();
    // Its time and its id come first; its commit comes last.
    const late = fork().transactional(async (em) => {
      await insertWholeEvent(em, event('Late', 60));
      written.resolve();
      await committing.promise;
    });
    await written.promise;
    const seen = await eventsAfter(fork(), 0, 100);
    expect(seen.map(({ event: { eventId } }) => eventId)).to.deep.equal(['a', 'b']);
    committing.resolve();
    await late;
    expect(await idsAfter(seen.at(-1)!.position)).to.deep.equal(['Late']);
    expect(await idsAfter(0)).to.deep.equal(['a', 'b', 'Late']);
  });

  it('all see the same order, each event once, while many write', async () => {
    const writers = Array.from({ length: 8 }, async (_, writer) => {
      for (let index = 0; index < 20; index += 1) await insertWholeEvent(fork(), event(`${writer}-${index}`));
    });
    let writing = true;
    const readers = Array.from({ length: 3 }, async () => {
      const ids: string[] = [];
      let position = 0;
      for (let isLast = false; ; isLast = !writing) {
        const events = await eventsAfter(fork(), position, 7);
        ids.push(...events.map(({ event: { eventId } }) => eventId));
        position = events.at(-1)?.position ?? position;
        if (isLast && events.length === 0) return ids;
      }
    });
    await Promise.all(writers);
    writing = false;
    const [first, ...others] = await Promise.all(readers);
    expect(first).to.have.length(160);
    expect(new Set(first).size).to.equal(160);
    for (const other of others) expect(other).to.deep.equal(first);
  });

  it('begin so many before the end, and follow until they are stopped', async () => {
    await add('a', 'b', 'c');
    expect(await idsAfter(await positionBeforeLast(fork(), 2))).to.deep.equal(['b', 'c']);
    expect(await idsAfter(await positionBeforeLast(fork(), 0))).to.deep.equal([]);
    expect(await idsAfter(await positionBeforeLast(fork(), 50))).to.deep.equal(['a', 'b', 'c']);
    const stop = new AbortController();
    const seen: string[] = [];
    for await (const { event: each } of readEvents(fork, { last: 1, after: 0, follow: true }, stop.signal)) {
      seen.push(each.eventId);
      if (seen.length === 1) await add('d');
      else stop.abort();
    }
    expect(seen).to.deep.equal(['c', 'd']);
  });

  it('miss what is removed for its age; numbers go up all the same', async () => {
    for (const [id, days] of [
      ['old-1', 100],
      ['old-2', 95],
      ['new', 80],
    ] as const)
      await insertWholeEvent(fork(), event(id, days * 24 * 60));
    const last = (await eventsAfter(fork(), 0, 10)).at(-1)!.position;
    await insertWholeEvent(fork(), event('old-unseen', 100 * 24 * 60));
    const dayMs = 24 * 60 * 60 * 1000;
    expect(await removeOldEvents(fork(), 90 * dayMs)).to.equal(3);
    expect(await idsAfter(0)).to.deep.equal(['new']);
    expect(await removeOldEvents(fork(), dayMs)).to.equal(0);
    await add('next');
    const [next] = await eventsAfter(fork(), last, 10);
    expect(next!.event.eventId).to.equal('next');
    expect(await removeOldEvents(fork(), dayMs)).to.equal(1);
  });

  it('hold few events at once when those are large, and get them all', async () => {
    const large = { text: 'x'.repeat(1024 * 1024) };
    const ids = Array.from({ length: 20 }, (_, index) => `large-${String(index).padStart(2, '0')}`);
    for (const id of ids) await insertWholeEvent(fork(), { ...event(id), details: large });
    await insertWholeEvent(fork(), { ...event('larger'), details: { text: 'x'.repeat(6 * 1024 * 1024) } });
    await add('small');
    const batches: number[] = [];
    let position = 0;
    while (true) {
      const events = await eventsAfter(fork(), position, 500);
      if (events.length === 0) break;
      batches.push(events.length);
      position = events.at(-1)!.position;
    }
    expect(Math.max(...batches)).to.be.within(4, 5);
    expect(batches.reduce((sum, count) => sum + count, 0)).to.equal(22);
    const seen: string[] = [];
    const range = { last: 100, after: 0, follow: false };
    for await (const { event: each } of readEvents(fork, range, new AbortController().signal)) seen.push(each.eventId);
    expect(seen).to.have.members([...ids, 'larger', 'small']);
  });

  describe('that write a file', () => {
    let target: string;
    let cursorFile: string;
    let log: MemoryLog;
    beforeEach(() => {
      const name = Math.random().toString(36).slice(2);
      target = path.join(folder, `${name}.jsonl`);
      cursorFile = path.join(folder, `${name}.cursor`);
      log = new MemoryLog();
    });

    /** Writes what there is, and ends. */
    const write = async (more: Partial<Parameters<typeof writeEvents>[0]> = {}): Promise<void> => {
      await writeEvents({ fork, target, cursorFile, log, intervalMs: 1, ...more }, AbortSignal.abort());
    };
    const written = async (): Promise<string[]> =>
      (await readFile(target, 'utf8'))
        .split('\n')
        .flatMap((line) => (line === '' ? [] : [(JSON.parse(line) as AuditEventJson).eventId]));

    it('go on where they were, though the cursor or the file is lost or older', async () => {
      await add('a', 'b');
      await write();
      expect(await written()).to.deep.equal(['a', 'b']);
      const older = await readFile(cursorFile, 'utf8');
      await add('c');
      await write();
      await writeFile(cursorFile, older);
      await write();
      await rm(cursorFile);
      await add('d');
      await write();
      expect(await written()).to.deep.equal(['a', 'b', 'c', 'd']);
      await rm(target);
      await add('e');
      await write();
      expect(await written()).to.deep.equal(['e']);
    });

    const restore = (...lost: string[]) => query(fork(), 'delete from audit_events where id = any ($1::text[])', [lost]);
    const isRestored = /^the database does not have the audit event that was written last/;

    for (const later of [['f'], ['f', 'g'], ['f', 'g', 'h']]) {
      it(`miss nothing after the database is restored from a backup: ${later.length} later events`, async () => {
        await add('a', 'b', 'c');
        await write();
        await add('d', 'e');
        await write();
        await restore('d', 'e');
        await add(...later);
        await write();
        expect(await written()).to.deep.equal(['a', 'b', 'c', 'd', 'e', ...later]);
        expect(log.lines).to.have.length(1);
        expect(log.lines[0]!.message).to.match(isRestored);
        await add('z');
        await write();
        expect(await written()).to.deep.equal(['a', 'b', 'c', 'd', 'e', ...later, 'z']);
        expect(log.lines).to.have.length(1);
      });
    }

    it('miss nothing when that happens while they run', async function () {
      this.timeout(20_000);
      await add('a', 'b');
      const stop = new AbortController();
      const running = writeEvents({ fork, target, cursorFile, log, intervalMs: 1 }, stop.signal);
      const seen = () => written().catch((): string[] => []);
      const sees = async (...ids: string[]): Promise<void> => {
        for (let look = 0; look < 2_000 && (await seen()).join() !== ids.join(); look += 1) await delay(5);
        expect(await seen()).to.deep.equal(ids);
      };
      try {
        await sees('a', 'b');
        await restore('b');
        await add('c');
        await sees('a', 'b', 'c');
      } finally {
        stop.abort();
        await running;
      }
    });

    it('go on with what has no number yet when neither file nor cursor tell where the database is', async () => {
      let out = '';
      const parts = { target: '-', writeOut: async (text: string): Promise<void> => void (out += text) };
      await add('a', 'b', 'c');
      await write(parts);
      await restore('b', 'c');
      out = '';
      await add('d');
      await write(parts);
      expect(out.match(/"eventId":"[a-d]"/g)).to.deep.equal(['"eventId":"d"']);
      expect(log.lines).to.have.length(1);
    });

    it('take no event that went for its age for a sign of a backup', async () => {
      await add('a', 'b');
      await write();
      await add('c');
      await eventsAfter(fork(), 0, 10);
      await restore('a', 'b');
      await rm(target);
      await write();
      expect(await written()).to.deep.equal(['c']);
      expect(log.lines).to.deep.equal([]);
    });

    it('cut off what a crash has left of a line', async () => {
      await add('a', 'b', 'c');
      await write();
      const text = await readFile(target, 'utf8');
      const bAt = text.indexOf('\n') + 1;
      const cAt = text.indexOf('\n', bAt) + 1;
      for (const length of [cAt, cAt + 1, cAt + 14, cAt + 200]) {
        await writeFile(target, text.slice(0, length));
        await writeFile(cursorFile, JSON.stringify({ target, position: 1, eventId: 'a' }));
        await write();
        expect(await readFile(target, 'utf8')).to.equal(text);
      }
    });

    it('leave what is no file of theirs as it is, and say so once', async () => {
      await add('a');
      await writeFile(target, 'somebody’s notes, without an end');
      await write();
      expect(await readFile(target, 'utf8')).to.equal('somebody’s notes, without an end');
      await write({ target: folder });
      expect(log.lines.map(({ message }) => message)).to.deep.equal(
        [target, folder].map((each) => `audit events cannot be written to ${each}; trying again`),
      );
      await rm(target);
      await write();
      expect(await written()).to.deep.equal(['a']);
    });

    it('write to standard output without reading it back', async () => {
      await add('a', 'b');
      let out = '';
      const writeOut = async (text: string): Promise<void> => void (out += text);
      await write({ target: '-', writeOut });
      await add('c');
      await write({ target: '-', writeOut });
      expect(
        out
          .trimEnd()
          .split('\n')
          .map((line) => (JSON.parse(line) as AuditEventJson).eventId),
      ).to.deep.equal(['a', 'b', 'c']);
    });
  });

  it('find refusals let in at a low rate, with a count of what is left out', async () => {
    let now = 0;
    let leftOut = 0;
    const bounds = { burst: 3, perSecond: 1, strangersBurst: 5, strangersPerSecond: 1 };
    const refusals = new Refusals({
      fork,
      places,
      log: new MemoryLog(),
      onWritten: () => {},
      onLeftOut: () => (leftOut += 1),
      bounds,
      now: () => now,
    });
    const refuse = (subjectId: string | undefined, address: string): number | undefined => {
      const before = refusals.admit({ subjectId, address });
      if (before !== undefined) refusals.add(event(`${subjectId ?? address}-${now}-${Math.random()}`), {});
      return before;
    };
    // One stranger, many strangers from one network, and a subject that is known.
    expect([1, 2, 3, 4, 5].map(() => refuse(undefined, '192.0.2.1'))).to.deep.equal([0, 0, 0, undefined, undefined]);
    expect([1, 2, 3, 4].map((at) => refuse(undefined, `2001:db8::${at}`))).to.deep.equal([2, 0, undefined, undefined]);
    expect(refuse('aje', '192.0.2.1')).to.equal(2);
    now = 1000;
    expect(refuse(undefined, '192.0.2.1')).to.equal(0);
    expect(leftOut).to.equal(4);
    await refusals[Symbol.asyncDispose]();
    expect(await idsAfter(0)).to.have.length(7);
  });

  it('tell where something was, when nobody knows it', async () => {
    const kind = { type: 'compute.image', table: 'images', key: 'image' } as const;
    const shown = await insertEvent(fork(), places, event('x'), {
      kind,
      folderId: 'nowhere',
      resourceId: 'nothing',
      resourceName: 'a-name',
    });
    expect(shown.resourceMetadata.path).to.deep.equal([
      { resourceType: 'compute.image', resourceId: 'nothing', resourceName: 'a-name' },
    ]);
    expect((await insertEvent(fork(), places, event('y'), {})).resourceMetadata.path).to.deep.equal([]);
  });
});
