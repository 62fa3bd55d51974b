// Operations over several processes and through everything that may happen to them. OBRAZ_TEST_LONG=1 asks for more of the same.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { Job } from '../../src/operations/job.entity.ts';
import { Operation } from '../../src/operations/operation.entity.ts';
import type { RunnerBounds } from '../../src/operations/runner-parts.ts';
import { decodeStatus } from '../../src/operations/status.mapper.ts';
import { TransientError } from '../../src/platform/errors.ts';
import { isLongRun, randomFrom, sampledIt, testSeed } from '../support/sample.ts';
import { EffectRow, emptyResponse, eventually, newOperation, OperationsKit } from '../support/operations-kit.ts';
import type { WorkerEvent, WorkerOptions } from '../support/operations-worker.ts';
import { testCluster } from '../support/postgres.ts';

/** Leases that a test can wait for. Crashes are counted; what is tested here is not how many are borne. */
const quick: Partial<RunnerBounds> = {
  leaseMs: 3_000,
  renewMs: 500,
  leaseMarginMs: 500,
  pollMs: 200,
  firstBackOffMs: 50,
  maxBackOffMs: 200,
  maxStalledAttempts: 100,
};

class Worker implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly events: WorkerEvent[] = [];
  readonly #exited: Promise<unknown>;

  constructor(options: WorkerOptions) {
    const script = path.join(import.meta.dirname, '../support/operations-worker.ts');
    this.child = spawn(process.execPath, [script, JSON.stringify(options)], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.child.stdin!.on('error', () => {});
    this.#exited = new Promise((resolve) => this.child.once('exit', resolve));
    createInterface(this.child.stdout!).on('line', (line) => this.events.push(JSON.parse(line) as WorkerEvent));
    // Shown when something fails; leases that are lost and connections that break are meant to be.
    createInterface(this.child.stderr!).on('line', (line) => process.env['OBRAZ_TEST_VERBOSE'] && console.warn(line));
  }

  seen(event: WorkerEvent['event'], more: Partial<WorkerEvent> = {}): Promise<WorkerEvent> {
    const wanted = Object.entries({ event, ...more });
    return eventually(() => this.events.find((told) => wanted.every(([key, value]) => told[key as keyof WorkerEvent] === value)));
  }

  count(event: WorkerEvent['event']): number {
    return this.events.filter((told) => told.event === event).length;
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.#exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill('SIGCONT');
    this.child.stdin!.end();
    const late = setTimeout(() => this.child.kill('SIGKILL'), 15_000);
    await this.#exited;
    clearTimeout(late);
  }
}

const percentile = (values: number[], share: number): number =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))]!;

const describeTimes = (values: number[]): string =>
  `median ${percentile(values, 0.5).toFixed(1)} ms, p99 ${percentile(values, 0.99).toFixed(1)} ms, of ${values.length}`;

const sampled = sampledIt({ of: 3 });

describe(`Operations over several processes (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(180_000);
  let kit: OperationsKit;
  beforeEach(async () => {
    kit = await OperationsKit.open();
  });
  afterEach(() => kit[Symbol.asyncDispose]());

  const worker = (options: Partial<WorkerOptions> = {}) =>
    new Worker({ url: kit.url, concurrency: 8, ...options, bounds: { ...quick, ...options.bounds } });

  /** Waits until all are done, then looks that every effect was applied exactly once and nothing is left. */
  async function expectEachDoneOnce(ids: readonly string[], withinMs = 120_000): Promise<void> {
    const deadline = Date.now() + withinMs;
    while ((await kit.fork().count(Operation, { done: false })) > 0) {
      if (Date.now() > deadline) {
        const jobs = await kit.fork().findAll(Job);
        throw new Error(`operations did not end: ${JSON.stringify(jobs.slice(0, 5))}`);
      }
      await delay(50);
    }
    const operations = await kit.fork().findAll(Operation);
    const failed = operations.filter(({ error }) => error != null).map(({ error }) => decodeStatus(error!).message);
    expect(failed).to.deep.equal([]);
    expect(new Set(operations.map(({ id }) => id))).to.deep.equal(new Set(ids));
    const effects = (await kit.fork().findAll(EffectRow)).map(({ operationId }) => operationId);
    expect(effects.toSorted()).to.deep.equal(ids.toSorted());
    expect(await kit.fork().count(Job)).to.equal(0);
  }

  it('a thousand short operations over two processes: each effect exactly once', async () => {
    await using one = worker();
    await using two = worker();
    await Promise.all([one.seen('ready'), two.seen('ready')]);
    const startedAtMs = Date.now();
    const ids: string[] = [];
    for (let batch = 0; batch < 50; batch += 1) {
      ids.push(...(await Promise.all(Array.from({ length: 20 }, () => kit.begin({ kind: 'short', payload: { ms: 1 } })))));
    }
    await expectEachDoneOnce(ids);
    const shares = `${one.count('left')} and ${two.count('left')}`;
    console.log(`      1000 operations in ${Date.now() - startedAtMs} ms; the processes ran ${shares}`);
  });

  sampled('kill -9 of runners at random moments: every operation ends, each effect exactly once', async () => {
    const random = randomFrom(testSeed);
    const kills = isLongRun ? 60 : 10;
    await using stack = new AsyncDisposableStack();
    const workers = [worker(), worker()];
    stack.defer(async () => {
      for (const each of workers) await each[Symbol.asyncDispose]();
    });
    const ids: string[] = [];
    for (let n = 0; n < kills; n += 1) {
      const orders = Array.from({ length: 10 }, (_, index) =>
        index % 2 === 0
          ? { kind: 'steps', payload: { steps: 10, ms: Math.floor(random() * 40) } }
          : { kind: 'short', payload: { ms: Math.floor(random() * 200) } },
      );
      ids.push(...(await Promise.all(orders.map((order) => kit.begin(order)))));
      await delay(random() * 600);
      const victim = random() < 0.5 ? 0 : 1;
      await workers[victim]!.kill();
      workers[victim] = worker();
    }
    await expectEachDoneOnce(ids);
  });

  sampled(
    'SIGSTOP beyond the lease, then SIGCONT, in the middle of the last transaction: the frozen runner changes nothing',
    async () => {
      await kit.sql('create table gates ()');
      await using frozen = worker();
      await frozen.seen('ready');
      const id = await kit.begin({ kind: 'frozen', payload: {} });
      await frozen.seen('in-effect', { operationId: id });
      frozen.child.kill('SIGSTOP');

      await using other = worker();
      await other.seen('started', { operationId: id, attempt: 2 });
      await eventually(async () => ((await kit.job(id))!.checkpoint as { by: number }).by === 2 || undefined);
      frozen.child.kill('SIGCONT');
      await frozen.seen('left', { outcome: 'lost' });
      expect((await kit.operation(id)).done).to.equal(false);
      expect(await kit.effects()).to.deep.equal([]);
      expect(await kit.job(id)).to.deep.include({ attempt: 2, checkpoint: { by: 2 } });

      await kit.sql('insert into gates default values');
      await expectEachDoneOnce([id]);
    },
  );

  sampled('SIGSTOP while it works, and SIGCONT when the operation is done: nothing changes any more', async () => {
    await using frozen = worker();
    await frozen.seen('ready');
    const id = await kit.begin({ kind: 'short', payload: { ms: 100 } });
    await frozen.seen('started', { operationId: id });
    frozen.child.kill('SIGSTOP');
    await using _other = worker();
    const done = await kit.ended(id);
    frozen.child.kill('SIGCONT');
    await frozen.seen('left', { outcome: 'lost' });
    expect(await kit.operation(id)).to.deep.equal(done);
    await expectEachDoneOnce([id]);
  });

  sampled('PostgreSQL restarted under load: what was acknowledged is done, each effect exactly once', async function () {
    const cluster = await testCluster();
    if (cluster === undefined) {
      console.warn('operations.spec.ts: the PostgreSQL of OBRAZ_TEST_DATABASE_URL cannot be restarted by a test');
      return this.skip();
    }
    await using one = worker();
    await using two = worker();
    await Promise.all([one.seen('ready'), two.seen('ready')]);
    const ids: string[] = [];
    let refused = 0;
    const over = new AbortController();
    /** A client as clients are: one key for each operation, and UNAVAILABLE is tried again under it. */
    const client = async (name: string): Promise<void> => {
      for (let n = 0; !over.signal.aborted; n += 1) {
        const order = n % 3 === 0 ? { kind: 'steps', payload: { steps: 5, ms: 20 } } : { kind: 'short', payload: { ms: 5 } };
        while (true) {
          const begun = kit.operations.begin(kit.call({ idempotencyKey: `${name} ${n}` }), () => newOperation({ job: order }));
          try {
            ids.push((await begun).id);
            break;
          } catch (error) {
            if (!(error instanceof TransientError)) throw error;
            refused += 1;
            await delay(50);
          }
        }
        await delay(5);
      }
    };
    const clients = Promise.all(['a', 'b', 'c', 'd'].map(client));
    const modes = isLongRun
      ? (['fast', 'immediate', 'fast', 'immediate', 'immediate'] as const)
      : (['fast', 'immediate'] as const);
    for (const mode of modes) {
      await delay(700);
      await cluster.restart(mode);
    }
    await delay(700);
    over.abort();
    await clients;
    await expectEachDoneOnce(ids);
    console.log(`      ${ids.length} operations through ${modes.length} restarts; ${refused} calls were told to try again`);
  });

  sampled('a cancellation reaches a handler in another process, by its notification', async () => {
    await using runner = worker({ bounds: { renewMs: 10_000, leaseMs: 60_000, pollMs: 60_000 } });
    await runner.seen('ready');
    const times: number[] = [];
    for (let n = 0; n < 10; n += 1) {
      const id = await kit.begin({ kind: 'short', payload: { ms: 600_000 } }, { cancellable: true });
      await runner.seen('started', { operationId: id });
      const atMs = Date.now();
      await kit.operations.cancel(kit.call(), await kit.operation(id));
      times.push((await runner.seen('aborted', { operationId: id })).atMs - atMs);
      const operation = await kit.ended(id);
      expect(decodeStatus(operation.error!).code).to.equal(1);
    }
    console.log(`      from Cancel to the handler's signal: ${describeTimes(times)}`);
    expect(await kit.effects()).to.deep.equal([]);
  });

  sampled('says how soon work is picked up', async () => {
    const started = new Map<string, number>();
    await using _local = kit.startRunner([
      {
        kind: 'local',
        run: async ({ operationId }) => {
          started.set(operationId, performance.now());
          return async () => emptyResponse();
        },
        abandon: async () => {},
      },
    ]);
    await using remote = worker();
    await remote.seen('ready');
    const times = { local: [] as number[], whole: [] as number[], remote: [] as number[] };
    for (let n = 0; n < 100; n += 1) {
      const atMs = performance.now();
      const id = await kit.begin({ kind: 'local', payload: {} });
      const begunMs = performance.now();
      await kit.ended(id);
      times.whole.push(performance.now() - atMs);
      times.local.push(Math.max(0, started.get(id)! - begunMs));
      const remoteId = await kit.begin({ kind: 'short', payload: { ms: 0 } });
      const remoteAtMs = Date.now();
      times.remote.push(Math.max(0, (await remote.seen('started', { operationId: remoteId })).atMs - remoteAtMs));
    }
    console.log(`      from the answer to the handler's start, same process: ${describeTimes(times.local)}`);
    console.log(`      the same, another process: ${describeTimes(times.remote)}`);
    console.log(`      from Create to done as a poller sees it: ${describeTimes(times.whole)}`);
    expect(times.local).to.have.length(100);
  });
});
