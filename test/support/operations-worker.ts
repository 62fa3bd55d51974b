// A process that runs jobs, for tests that kill, stop and outlive it: `node operations-worker.ts '<WorkerOptions as JSON>'`. What
// happens is told in lines of JSON on standard output. It ends when its standard input does.
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../../src/db/bound-query.ts';
import { createOrm } from '../../src/db/orm.ts';
import { JobBell } from '../../src/operations/job-bell.ts';
import type { JobHandler } from '../../src/operations/job-handler.ts';
import { Runner } from '../../src/operations/runner.ts';
import type { RunnerBounds } from '../../src/operations/runner-parts.ts';
import { EffectRow, operationEntities, response } from './operations-kit.ts';
import { everybodyMay } from './call.ts';

export interface WorkerOptions {
  url: string;
  concurrency: number;
  bounds: Partial<RunnerBounds>;
}

export interface WorkerEvent {
  event: 'ready' | 'started' | 'in-effect' | 'aborted' | 'left';
  operationId?: string;
  attempt?: number;
  outcome?: string;
  /** Wall clock, ms: tests and workers share a machine. */
  atMs: number;
}

const tell = (event: Omit<WorkerEvent, 'atMs'>) => process.stdout.write(`${JSON.stringify({ ...event, atMs: Date.now() })}\n`);

const leavesARow = (operationId: string) => async (em: EntityManager) => {
  em.create(EffectRow, { id: randomUUID(), operationId });
  return response(operationId);
};

/** Sleeps, then leaves a row. */
const short: JobHandler<{ ms: number }> = {
  kind: 'short',
  async run({ operationId, attempt, payload, signal }) {
    tell({ event: 'started', operationId, attempt });
    signal.addEventListener('abort', () => tell({ event: 'aborted', operationId, attempt }));
    await delay(payload.ms, undefined, { signal });
    return leavesARow(operationId);
  },
  async abandon() {},
};

/** Goes step by step from its checkpoint. */
const steps: JobHandler<{ steps: number; ms: number }, { at: number }> = {
  kind: 'steps',
  async run(job) {
    for (let at = job.checkpoint?.at ?? 0; at < job.payload.steps; at += 1) {
      await delay(job.payload.ms, undefined, { signal: job.signal });
      await job.saveCheckpoint({ at: at + 1 });
      job.progress({ bytesDone: at + 1, bytesTotal: job.payload.steps, phase: 'stepping' });
    }
    return leavesARow(job.operationId);
  },
  async abandon() {},
};

/** The first attempt stays a while inside its effect, where the test freezes it; later ones wait for a row in `gates`. */
const frozen: JobHandler<unknown, { by: number }> = {
  kind: 'frozen',
  async run(job) {
    const { operationId, attempt } = job;
    tell({ event: 'started', operationId, attempt });
    await job.saveCheckpoint({ by: attempt });
    if (attempt === 1) {
      return async (em) => {
        const answer = await leavesARow(operationId)(em);
        await em.flush();
        tell({ event: 'in-effect', operationId, attempt });
        await delay(300);
        return answer;
      };
    }
    while ((await query(orm.em.fork() as EntityManager, 'select from gates')).length === 0) {
      await delay(20, undefined, { signal: job.signal });
    }
    return leavesARow(operationId);
  },
  async abandon() {},
};

const { url, concurrency, bounds } = JSON.parse(process.argv[2]!) as WorkerOptions;
const orm = await createOrm({ url, entities: operationEntities, poolSize: 10 });
const fork = () => orm.em.fork() as EntityManager;
const log = {
  info() {},
  warn(fields: object, message: string) {
    this.info();
    process.stderr.write(`${message} ${JSON.stringify(fields)}\n`);
  },
  error(fields: object, message: string) {
    process.stderr.write(`${message} ${JSON.stringify(fields)} ${(fields as { err?: Error }).err?.stack ?? ''}\n`);
  },
};
const runner = new Runner({
  fork,
  bell: new JobBell(fork),
  access: everybodyMay,
  handlers: [short, steps, frozen] as JobHandler[],
  concurrency,
  listenUrl: url,
  log,
  bounds,
  metrics: { left: (_kind, outcome) => tell({ event: 'left', outcome }) },
});
runner.start();
tell({ event: 'ready' });

process.stdin.resume();
process.stdin.once('end', () => {
  void runner[Symbol.asyncDispose]()
    .then(() => orm.close(true))
    .finally(() => process.exit(0));
});
