// Operations and runners on a database of their own, for tests.
import { randomUUID } from 'node:crypto';
import { defineEntity } from '@mikro-orm/core';
import type { EntityManager, MikroORM } from '@mikro-orm/postgresql';
import { Empty } from '../../generated/google/protobuf/empty.ts';
import { GetOperationRequest as SomeMessage } from '../../generated/yandex/cloud/operation/operation_service.ts';
import { query } from '../../src/db/bound-query.ts';
import { text } from '../../src/db/columns.ts';
import type { Call } from '../../src/iam/call.ts';
import { IdempotencyKeySchema } from '../../src/operations/idempotency-key.entity.ts';
import { JobBell } from '../../src/operations/job-bell.ts';
import type { JobHandler } from '../../src/operations/job-handler.ts';
import { Job, JobSchema } from '../../src/operations/job.entity.ts';
import { Operation, OperationSchema } from '../../src/operations/operation.entity.ts';
import { type JobOrder, type NewOperation, Operations } from '../../src/operations/operations.ts';
import { pack } from '../../src/operations/pack.ts';
import { Runner } from '../../src/operations/runner.ts';
import type { JobLog, RunnerBounds, RunnerParts } from '../../src/operations/runner-parts.ts';
import { everybodyMay, testCall } from './call.ts';
import { testOrm } from './test-orm.ts';

/** What effects change in these tests: a row each time an effect is applied. */
const EffectRowSchema = defineEntity({
  name: 'EffectRow',
  tableName: 'effects',
  properties: { id: text().primary(), operationId: text() },
});

export class EffectRow extends EffectRowSchema.class {}
EffectRowSchema.setClass(EffectRow);

export const operationEntities = [OperationSchema, JobSchema, IdempotencyKeySchema, EffectRowSchema];

/** A response that is told apart from others. */
export const response = (id: string) => pack(SomeMessage, { operationId: id });
export const emptyResponse = () => pack(Empty, {});
export const someMetadata = pack(SomeMessage, { operationId: 'metadata' });

/** An effect that leaves one row, so that a second one would show. */
export const leavesARow = (operationId: string) => async (em: EntityManager) => {
  em.create(EffectRow, { id: randomUUID(), operationId });
  return response(operationId);
};

export interface LogLine {
  level: 'info' | 'warn' | 'error';
  fields: Record<string, unknown>;
  message: string;
}

export class MemoryLog implements JobLog {
  readonly lines: LogLine[] = [];
  info(fields: object, message: string): void {
    this.lines.push({ level: 'info', fields: { ...fields }, message });
  }
  warn(fields: object, message: string): void {
    this.lines.push({ level: 'warn', fields: { ...fields }, message });
  }
  error(fields: object, message: string): void {
    this.lines.push({ level: 'error', fields: { ...fields }, message });
  }
}

/** Bounds that make a test wait less. Leases stay long: nothing here is to lose one by a slow machine. */
export const shortBounds: Partial<RunnerBounds> = {
  pollMs: 50,
  progressMs: 20,
  firstBackOffMs: 5,
  maxBackOffMs: 20,
};

export class OperationsKit implements AsyncDisposable {
  readonly orm: MikroORM;
  readonly url: string;
  readonly log = new MemoryLog();
  readonly bell: JobBell;
  readonly operations: Operations;
  readonly fork: () => EntityManager;
  readonly #stack: AsyncDisposableStack;

  private constructor(orm: MikroORM, url: string, stack: AsyncDisposableStack) {
    this.orm = orm;
    this.url = url;
    this.fork = () => orm.em.fork();
    this.bell = new JobBell(this.fork);
    this.operations = new Operations({ bell: this.bell, fork: this.fork });
    this.#stack = stack;
  }

  static async open(): Promise<OperationsKit> {
    const stack = new AsyncDisposableStack();
    const { orm, url } = stack.use(await testOrm(operationEntities));
    return new OperationsKit(orm, url, stack);
  }

  call(overrides: Partial<Call> = {}): Call {
    return testCall(this.fork(), overrides);
  }

  /** Begins an operation with a job; answers its id. */
  async begin(job: JobOrder, about: Partial<Omit<NewOperation, 'job' | 'response'>> = {}): Promise<string> {
    const { id } = await this.operations.begin(this.call(), () => newOperation({ ...about, job }));
    return id;
  }

  /** A runner that is stopped with the kit, if not before. */
  startRunner(handlers: JobHandler[], parts: Partial<RunnerParts> = {}): Runner {
    const runner = this.runner(handlers, parts);
    runner.start();
    return this.#stack.use(runner);
  }

  runner(handlers: JobHandler[], parts: Partial<RunnerParts> = {}): Runner {
    return new Runner({
      fork: this.fork,
      bell: this.bell,
      access: everybodyMay,
      handlers,
      concurrency: 4,
      log: this.log,
      ...parts,
      bounds: { ...shortBounds, ...parts.bounds },
    });
  }

  operation(id: string): Promise<Operation> {
    return this.fork().findOneOrFail(Operation, { id });
  }

  job(operationId: string): Promise<Job | null> {
    return this.fork().findOne(Job, { operationId });
  }

  /** Waits for `done`, at most 45 s. */
  ended(id: string): Promise<Operation> {
    return eventually(async () => {
      const operation = await this.operation(id);
      return operation.done ? operation : undefined;
    });
  }

  effects(): Promise<EffectRow[]> {
    return this.fork().findAll(EffectRow);
  }

  sql<Row>(statement: string, parameters: unknown[] = []): Promise<Row[]> {
    return query<Row>(this.fork(), statement, parameters);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

export const newOperation = (parts: Partial<NewOperation>): NewOperation => ({
  folderId: 'b1gfolder',
  resourceId: 'fd8resource',
  resourceKind: 'compute.image',
  description: 'Test',
  metadata: someMetadata,
  ...parts,
});

/** Looks until `look` answers something, at most 45 s. */
export async function eventually<Answer>(look: () => Promise<Answer | undefined> | Answer | undefined): Promise<Answer> {
  const deadline = Date.now() + 45_000;
  while (true) {
    const answer = await look();
    if (answer !== undefined) return answer;
    if (Date.now() > deadline) throw new Error('what was waited for did not come within 45 s');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
