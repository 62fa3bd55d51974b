import { setImmediate as turn } from 'node:timers/promises';
import { expect } from 'chai';
import { IndexBudget } from '../../../src/attach/index-budget.ts';
import { defaultWriterBounds, WriteRoom } from '../../../src/attach/write-room.ts';
import type { Log } from '../../../src/platform/log.ts';
import { MemoryLog } from '../../support/operations-kit.ts';

describe('Writes that wait for commits', () => {
  const { signal } = new AbortController();

  class Disk {
    readonly diskId = 'epd1';
    logBytes = 101;
    indexBytes = 0;
    openIndexBytes = 0;
    seals = 0;
    readonly budget = new IndexBudget();
    readonly log = new MemoryLog();
    readonly room: WriteRoom;

    constructor(bounds: { stalledMs: number; waitMs: number }) {
      this.room = new WriteRoom(
        this,
        { ...defaultWriterBounds, logBytes: 100, ...bounds },
        this.budget,
        this.log as unknown as Log,
      );
    }

    sealSoon(): void {
      this.seals += 1;
    }
  }

  const refusal = (waiting: Promise<void>): Promise<string | undefined> =>
    waiting.then(
      () => undefined,
      (error: { code?: string }) => error.code,
    );

  const hour = 3_600_000;

  it('have what was written sealed, say so once, and go on when something was committed', async () => {
    const disk = new Disk({ stalledMs: hour, waitMs: hour });
    expect(disk.room.isFull).to.equal(true);
    const waits = [disk.room.wait(performance.now(), signal), disk.room.wait(performance.now(), signal)];
    expect(disk.budget.waiting).to.equal(2);
    expect(disk.seals).to.equal(2);
    expect(disk.log.lines.map(({ message }) => message)).to.deep.equal([
      'writes wait: what was written before is to be committed first',
    ]);
    disk.logBytes = 0;
    disk.budget.gaveBack(disk);
    await Promise.all(waits);
    expect(disk.room.isFull).to.equal(false);
    expect(disk.budget.waiting).to.equal(0);
  });

  it('end with their client', async () => {
    const disk = new Disk({ stalledMs: hour, waitMs: hour });
    const client = new AbortController();
    const waiting = disk.room.wait(performance.now(), client.signal);
    client.abort(new Error('gone'));
    expect(await waiting.catch((error: Error) => error.message)).to.equal('gone');
    expect(disk.budget.waiting).to.equal(0);
  });

  it('are answered ENOSPC when no commit gets on, and wait on when one does, but not for ever', async () => {
    const longAgo = performance.now() - hour / 2;
    const stalled = new Disk({ stalledMs: 60_000, waitMs: hour });
    expect(await refusal(stalled.room.wait(longAgo, signal))).to.equal('ENOSPC');
    expect(stalled.log.lines[0]!.message).to.match(/refused as if the disk were full/);

    const moving = new Disk({ stalledMs: 60_000, waitMs: hour });
    moving.budget.moved();
    const waiting = moving.room.wait(longAgo, signal);
    await turn();
    expect(moving.budget.waiting).to.equal(1);
    moving.budget.gaveBack(moving);
    await waiting;

    const tooLong = new Disk({ stalledMs: 60_000, waitMs: hour / 4 });
    tooLong.budget.moved();
    expect(await refusal(tooLong.room.wait(longAgo, signal))).to.equal('ENOSPC');
  });

  it('look again when their time is over', async () => {
    const disk = new Disk({ stalledMs: 20, waitMs: hour });
    const sinceMs = performance.now();
    await disk.room.wait(sinceMs, signal);
    expect(await refusal(disk.room.wait(sinceMs - 20, signal))).to.equal('ENOSPC');
  });
});
