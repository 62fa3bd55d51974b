import { expect } from 'chai';
import { Listener } from '../../../src/db/listen.ts';
import { JobBell, jobChannel } from '../../../src/operations/job-bell.ts';
import { emptyResponse, eventually, OperationsKit } from '../../support/operations-kit.ts';

describe('JobBell', () => {
  let kit: OperationsKit;
  before(async () => {
    kit = await OperationsKit.open();
  });
  after(() => kit[Symbol.asyncDispose]());

  /** What one listener hears. */
  function ear(bell: JobBell) {
    const heard: unknown[] = [];
    bell.subscribe({
      onWork: () => heard.push('work'),
      onCancel: (ids) => heard.push(ids ?? 'all'),
      onFreed: () => heard.push('freed'),
    });
    return heard;
  }

  async function listen(...bells: JobBell[]) {
    const listening = Promise.withResolvers<void>();
    const payloads: string[] = [];
    const listener = new Listener({
      url: kit.url,
      channel: jobChannel,
      onNotification: (payload) => {
        payloads.push(payload);
        for (const bell of bells) bell.hear(payload);
      },
      onListening: listening.resolve,
    });
    await listening.promise;
    return { listener, payloads };
  }

  it('wakes its own process at once and others by a notification, which its own ignores', async () => {
    const mine = new JobBell(kit.fork);
    const other = new JobBell(kit.fork);
    const heardHere = ear(mine);
    const heardThere = ear(other);
    const { listener } = await listen(mine, other);
    await using _listener = listener;
    mine.ring(['fd8a']);
    expect(heardHere).to.deep.equal([['fd8a'], 'work']);
    await eventually(() => (heardThere.length >= 2 ? true : undefined));
    expect(heardThere).to.deep.equal([['fd8a'], 'work']);
    expect(heardHere).to.have.length(2);
  });

  it('tells its own process and others that data can be collected', async () => {
    const mine = new JobBell(kit.fork);
    const other = new JobBell(kit.fork);
    const heardHere = ear(mine);
    const heardThere = ear(other);
    const { listener, payloads } = await listen(mine, other);
    await using _listener = listener;
    mine.freed();
    expect(heardHere).to.deep.equal(['freed']);
    await eventually(() => (heardThere.includes('freed') ? true : undefined));
    expect(heardHere).to.deep.equal(['freed']);
    // Told once: the next ring is of work alone.
    mine.ring();
    await eventually(() => (payloads.length >= 2 ? true : undefined));
    expect(payloads.map((payload) => payload.includes('freed'))).to.deep.equal([true, false]);
  });

  it('coalesces: a thousand rings in one turn are two notifications at most', async () => {
    const bell = new JobBell(kit.fork);
    const { listener, payloads } = await listen();
    await using _listener = listener;
    for (let n = 0; n < 1000; n += 1) bell.ring();
    await kit.sql(`select pg_notify($1, 'last')`, [jobChannel]);
    await eventually(() => (payloads.includes('last') && payloads.length > 1 ? true : undefined));
    new JobBell(kit.fork).ring();
    await eventually(() => (payloads.at(-1)?.includes('from') === true ? true : undefined));
    expect(payloads.filter((payload) => payload.includes('from')).length).to.be.within(2, 3);
  });

  it('names no ids when there are too many for a notification', async () => {
    const mine = new JobBell(kit.fork);
    const other = new JobBell(kit.fork);
    const heard = ear(other);
    const { listener } = await listen(other);
    await using _listener = listener;
    mine.ring(Array.from({ length: 1000 }, (_, index) => `fd8${index}`));
    await eventually(() => (heard.length >= 2 ? true : undefined));
    expect(heard).to.deep.equal(['all', 'work']);
  });

  it('takes what it cannot read for a hint to look at everything', () => {
    for (const payload of [
      '',
      'x',
      '{}',
      'null',
      '[]',
      '{"from":1}',
      '{"from":"a","cancelled":[1]}',
      '{"from":"a","cancelled":"b"}',
    ]) {
      const bell = new JobBell(kit.fork);
      const heard = ear(bell);
      bell.hear(payload);
      expect(heard).to.deep.equal(['all', 'work']);
    }
  });

  it('wakes the runner of another process without waiting for its poll', async () => {
    const other = new JobBell(kit.fork);
    await using runner = kit.runner([{ kind: 'test', run: async () => async () => emptyResponse(), abandon: async () => {} }], {
      bell: other,
      listenUrl: kit.url,
      bounds: { pollMs: 600_000 },
    });
    runner.start();
    // The first are perhaps found by the look that follows LISTEN; the later ones only by their notification.
    for (let n = 0; n < 3; n += 1) await kit.ended(await kit.begin({ kind: 'test', payload: {} }));
  });

  it('is not needed: a lost ring is made up for by the poll', async () => {
    const deaf = new JobBell(kit.fork);
    await using runner = kit.runner([{ kind: 'test', run: async () => async () => emptyResponse(), abandon: async () => {} }], {
      bell: deaf,
      bounds: { pollMs: 20 },
    });
    runner.start();
    for (let n = 0; n < 3; n += 1) await kit.ended(await kit.begin({ kind: 'test', payload: {} }));
  });
});
