// Real threads, with tasks that do nothing but what a pool has to cope with.
import { expect } from 'chai';
import { TransientError } from '../../../../src/platform/errors.ts';
import { ThreadPool, type ThreadPoolOptions } from '../../../../src/storage/threads/thread-pool.ts';
import type { EchoDialogue } from './support/echo-thread.ts';

describe('a pool of threads', function () {
  this.timeout(60_000);
  const memory: SharedArrayBuffer[] = [];
  let notes: string[];
  let lost: string[];
  let pool: ThreadPool<EchoDialogue>;

  const start = (options: Partial<ThreadPoolOptions<EchoDialogue>> = {}): ThreadPool<EchoDialogue> =>
    new ThreadPool({
      module: new URL('./support/echo-thread.ts', import.meta.url),
      workerData: undefined,
      threads: 2,
      title: 'a test thread',
      memory: () => memory,
      onNote: (note) => notes.push(note),
      onLost: (reason) => lost.push(reason),
      ...options,
    });

  const errorOf = (promise: Promise<unknown>): Promise<unknown> =>
    promise.then(
      () => undefined,
      (error: unknown) => error,
    );

  /** Notes and answers come on their own time; mocha bounds the wait. */
  async function until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
  }

  beforeEach(() => {
    notes = [];
    lost = [];
    pool = start();
  });

  afterEach(() => pool[Symbol.asyncDispose]());

  it('answers every task, also when answers of one turn come together', async () => {
    const texts = Array.from({ length: 50 }, (_, index) => `${index % 3 === 0 ? 'large' : 'small'} ${index}`);
    const answers = await Promise.all(texts.map((text) => pool.run({ kind: 'echo', text })));
    expect(answers).to.deep.equal(texts.map((text) => `nowhere: ${text}`));
  });

  it('tells what a task failed with', async () => {
    const error = await errorOf(pool.run({ kind: 'fail', text: 'out of range' }));
    expect(error).to.be.instanceOf(Error).with.property('message', 'out of range');
  });

  it('gives tasks to the thread whose memory is free, though others of its tasks wait for the disk', async () => {
    using context = pool.open({ name: 'here' });
    const stop = new AbortController();
    let taken = 0;
    const wait = (options: { taken: boolean }): Promise<unknown> =>
      errorOf(pool.run({ kind: 'wait', failAfterMs: 0, ...options }, context, stop.signal, () => (taken += 1)));
    const first = await pool.run({ kind: 'thread' });
    const waiting = [wait({ taken: true }), wait({ taken: true })];
    await until(() => taken === 2);
    expect(await pool.run({ kind: 'thread' })).to.equal(first);
    waiting.push(wait({ taken: false }));
    expect(await pool.run({ kind: 'thread' })).not.to.equal(first);
    stop.abort(new Error('enough'));
    await Promise.all(waiting);
    expect(taken).to.equal(2);
  });

  it('opens a context in the threads that work in it, and closes it there', async () => {
    {
      using context = pool.open({ name: 'here' });
      const answers = await Promise.all([1, 2, 3, 4].map(() => pool.run({ kind: 'echo', text: 'hello' }, context)));
      expect(answers).to.deep.equal(Array.from({ length: 4 }, () => 'here: hello'));
    }
    await until(() => notes.filter((note) => note === 'close here').length === 2);
    expect(notes.filter((note) => note === 'open here')).to.have.length(2);
  });

  it('fails every task of a context that cannot be opened, and takes none of one that is closed', async () => {
    const context = pool.open({ name: 'unreadable' });
    for (let turn = 0; turn < 3; turn += 1) {
      const error = await errorOf(pool.run({ kind: 'echo', text: 'hello' }, context));
      expect(error).to.be.instanceOf(Error).with.property('message', 'it cannot be opened');
    }
    context[Symbol.dispose]();
    const error = await errorOf(pool.run({ kind: 'echo', text: 'hello' }, context));
    expect(error).to.be.instanceOf(Error).with.property('message', 'a task was given in a context that is closed');
  });

  it('shows threads the memory that has come since they started', async () => {
    for (let piece = 0; piece < 3; piece += 1) {
      memory.push(new SharedArrayBuffer(8));
      new Uint8Array(memory[piece]!)[0] = 40 + piece;
      expect(await pool.run({ kind: 'read', piece })).to.equal(String(40 + piece));
    }
  });

  it('asks for admission in the main thread, of the context that puts', async () => {
    const asked: string[] = [];
    using here = pool.open({ name: 'here' }, async (keys) => keys.map((key) => (asked.push(key), 'rewrite')));
    using there = pool.open({ name: 'there' }, () => Promise.reject(new TransientError('Another attempt has taken over')));
    expect(await pool.run({ kind: 'admit', keys: ['a', 'b'] }, here, new AbortController().signal)).to.equal('rewrite rewrite');
    expect(asked).to.deep.equal(['a', 'b']);
    const error = await errorOf(pool.run({ kind: 'admit', keys: ['c'] }, there));
    expect(error).to.be.instanceOf(TransientError).with.property('message', 'Another attempt has taken over');
    expect(asked).to.have.length(2);
  });

  it('ends a task that waits for an admission when it is aborted', async () => {
    const reason = new Error('cancelled by a test');
    const controller = new AbortController();
    using context = pool.open({ name: 'here' }, () => {
      controller.abort(reason);
      return new Promise(() => {});
    });
    expect(await errorOf(pool.run({ kind: 'admit', keys: ['a'] }, context, controller.signal))).to.equal(reason);
  });

  it('settles an aborted task with the reason, and not before the thread has let go', async () => {
    const reason = new Error('cancelled by a test');
    const controller = new AbortController();
    using context = pool.open({ name: 'here' });
    const task = errorOf(pool.run({ kind: 'wait', failAfterMs: 50 }, context, controller.signal));
    await until(() => notes.includes('waiting'));
    controller.abort(reason);
    expect(await task).to.equal(reason);
    expect(notes).to.include('gave up');
    expect(await errorOf(pool.run({ kind: 'echo', text: 'late' }, context, controller.signal))).to.equal(reason);
  });

  for (const how of ['throw', 'exit'] as const) {
    it(`fails what a thread was doing when it dies (${how}), and goes on with another`, async () => {
      pool = start({ threads: 1 });
      using context = pool.open({ name: 'here' });
      const waiting = errorOf(pool.run({ kind: 'wait', failAfterMs: 0 }, context, new AbortController().signal));
      const dying = errorOf(pool.run({ kind: 'die', how }, context));
      for (const error of await Promise.all([waiting, dying]))
        expect(error).to.be.instanceOf(TransientError).with.property('message', 'a test thread ended');
      expect(lost).to.have.length(1);
      expect(lost[0]).to.match(how === 'exit' ? /exit code 3/ : /a bug/);
      // The context is opened anew in the thread that takes its place.
      expect(await pool.run({ kind: 'echo', text: 'hello' }, context)).to.equal('here: hello');
    });
  }

  it('fails what is under way when it is closed, and takes nothing more', async () => {
    using context = pool.open({ name: 'here' });
    const waiting = errorOf(pool.run({ kind: 'wait', failAfterMs: 0 }, context, new AbortController().signal));
    await until(() => notes.includes('waiting'));
    await pool[Symbol.asyncDispose]();
    expect(await waiting).to.be.instanceOf(TransientError);
    expect(await errorOf(pool.run({ kind: 'echo', text: 'late' }))).to.be.instanceOf(TransientError);
    expect(lost).to.have.length(0);
  });
});
