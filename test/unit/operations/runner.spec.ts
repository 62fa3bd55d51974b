import { expect } from 'chai';
import { DomainError, invalidArgument, TransientError } from '../../../src/platform/errors.ts';
import type { JobAborted } from '../../../src/operations/job-handler.ts';
import { type JobHandler, LeaseLost, type RunningJob } from '../../../src/operations/job-handler.ts';
import type { Operation } from '../../../src/operations/operation.entity.ts';
import { decodeStatus } from '../../../src/operations/status.mapper.ts';
import { everybodyMay, someAccount } from '../../support/call.ts';
import { emptyResponse, eventually, leavesARow, OperationsKit, response } from '../../support/operations-kit.ts';

/** A handler of kind `test` whose run is given; it abandons by leaving a row for the operation `abandoned`. */
const handler = (run: JobHandler['run'], abandon: JobHandler['abandon'] = async () => {}): JobHandler => ({
  kind: 'test',
  run,
  abandon,
});

/** Work that goes on until it is aborted; `started` resolves with each job that begins. */
function untilAborted() {
  const started: RunningJob[] = [];
  const run = (job: RunningJob): Promise<never> => {
    started.push(job);
    return new Promise((_, reject) => job.signal.addEventListener('abort', () => reject(job.signal.reason as Error)));
  };
  return { run, started, first: () => eventually(() => started[0]) };
}

const statusOf = ({ error }: Operation) => decodeStatus(error!);

describe('Runner', () => {
  let kit: OperationsKit;
  beforeEach(async () => {
    kit = await OperationsKit.open();
  });
  afterEach(() => kit[Symbol.asyncDispose]());

  it('applies the effect and ends the operation with its response, and the job is gone', async () => {
    kit.startRunner([handler(async (job) => leavesARow(job.operationId))]);
    const id = await kit.begin({ kind: 'test', payload: {} });
    const operation = await kit.ended(id);
    expect(operation.error).to.equal(null);
    expect(operation.responseType).to.equal(response(id).typeUrl);
    expect(Buffer.from(operation.response!)).to.deep.equal(Buffer.from(response(id).value));
    expect(await kit.job(id)).to.equal(null);
    expect((await kit.effects()).map((row) => row.operationId)).to.deep.equal([id]);
  });

  it('hands the operation over to a job of another kind, in the transaction of what was done', async () => {
    const id = await kit.begin({ kind: 'test', payload: {} });
    const next = { kind: 'next', payload: { of: id }, pinnedRoots: ['a root'] };
    const runner = kit.startRunner([
      handler(async (job) => {
        await job.saveCheckpoint('its own');
        return async (em) => {
          await leavesARow(job.operationId)(em);
          return next;
        };
      }),
    ]);
    const job = await eventually(async () => {
      const there = await kit.job(id);
      return there?.kind === 'next' ? there : undefined;
    });
    expect(job).to.include({ attempt: 1, stalledAttempts: 0, checkpoint: null, leaseUntil: null });
    expect(job.payload).to.deep.equal(next.payload);
    expect(job.pinnedRoots).to.deep.equal(next.pinnedRoots);
    expect((await kit.operation(id)).done).to.equal(false);
    expect(await kit.effects()).to.have.length(1);
    await runner[Symbol.asyncDispose]();
    expect(kit.log.lines.at(-1)).to.deep.include({ message: 'job ended' });
    expect(kit.log.lines.at(-1)!.fields).to.include({ outcome: 'done', reason: 'goes on as next' });
    kit.startRunner([{ ...handler(async () => async () => response('the next')), kind: 'next' }]);
    const operation = await kit.ended(id);
    expect(Buffer.from(operation.response!)).to.deep.equal(Buffer.from(response('the next').value));
    expect(await kit.job(id)).to.equal(null);
  });

  it('hands nothing over when another attempt has taken the job', async () => {
    const id = await kit.begin({ kind: 'test', payload: {} });
    const runner = kit.startRunner([
      handler(async (job) => {
        await kit.sql('update jobs set attempt = 2 where operation_id = $1', [id]);
        return async (em) => {
          await leavesARow(job.operationId)(em);
          return { kind: 'next', payload: {} };
        };
      }),
    ]);
    await eventually(() => kit.log.lines.find(({ fields }) => fields.outcome === 'lost'));
    await runner[Symbol.asyncDispose]();
    expect(await kit.job(id)).to.include({ kind: 'test', attempt: 2 });
    expect(await kit.effects()).to.deep.equal([]);
  });

  it('gives the handler its payload and attempt, and finds jobs that were there before it', async () => {
    const id = await kit.begin({ kind: 'test', payload: { uri: 'https://example.com/a?b="c"', list: [1, null] } });
    const seen: unknown[] = [];
    kit.startRunner([
      handler(async ({ payload, attempt, checkpoint }) => {
        seen.push({ payload, attempt, checkpoint });
        return async () => emptyResponse();
      }),
    ]);
    await kit.ended(id);
    expect(seen).to.deep.equal([
      { payload: { uri: 'https://example.com/a?b="c"', list: [1, null] }, attempt: 1, checkpoint: undefined },
    ]);
  });

  it('does no work for an account that may not act any more', async () => {
    let runs = 0;
    const run = async () => {
      runs += 1;
      return async () => emptyResponse();
    };
    kit.startRunner([handler(run)], { access: { ...everybodyMay, isActive: async ({ id }) => id !== someAccount.id } });
    const operation = await kit.ended(await kit.begin({ kind: 'test', payload: {} }));
    expect(statusOf(operation)).to.include({
      code: 7,
      message: `Service account ${someAccount.id} may not act any more: it is suspended, has expired or is gone`,
    });
    await kit.ended(await kit.begin({ kind: 'test', payload: {}, unconditional: true }));
    expect(runs).to.equal(1);
  });

  it('leaves jobs of kinds that it does not know to others', async () => {
    kit.startRunner([handler(async () => async () => emptyResponse())]);
    const unknown = await kit.begin({ kind: 'unknown', payload: {} });
    await kit.ended(await kit.begin({ kind: 'test', payload: {} }));
    expect((await kit.operation(unknown)).done).to.equal(false);
    expect((await kit.job(unknown))!.attempt).to.equal(0);
    kit.startRunner([{ ...handler(async () => async () => emptyResponse()), kind: 'unknown' }]);
    await kit.ended(unknown);
  });

  it('never runs more jobs at once than it has places', async () => {
    let running = 0;
    let most = 0;
    kit.startRunner(
      [
        handler(async () => {
          most = Math.max(most, (running += 1));
          await new Promise((resolve) => setTimeout(resolve, 10));
          running -= 1;
          return async () => emptyResponse();
        }),
      ],
      { concurrency: 3 },
    );
    const ids = await Promise.all(Array.from({ length: 20 }, () => kit.begin({ kind: 'test', payload: {} })));
    for (const id of ids) await kit.ended(id);
    expect(most).to.equal(3);
  });

  describe('errors', () => {
    it('ends the operation with a DomainError and its details, after the clean-up, and does not try again', async () => {
      let runs = 0;
      kit.startRunner([
        handler(
          async () => {
            runs += 1;
            throw invalidArgument('min_disk_size', 'is too small');
          },
          async (em, payload, error) => {
            await leavesARow(`${(payload as { of: string }).of} ${error.code}`)(em);
          },
        ),
      ]);
      const operation = await kit.ended(await kit.begin({ kind: 'test', payload: { of: 'clean-up' } }));
      expect(statusOf(operation)).to.include({ code: 3, message: 'min_disk_size: is too small' });
      expect(statusOf(operation).details.map(({ typeUrl }) => typeUrl)).to.deep.equal([
        'type.googleapis.com/google.rpc.BadRequest',
      ]);
      expect(operation.response).to.equal(null);
      expect(runs).to.equal(1);
      expect((await kit.effects()).map((row) => row.operationId)).to.deep.equal(['clean-up INVALID_ARGUMENT']);
    });

    it('tries again after a TransientError, and ends UNAVAILABLE with the last reason after 8 attempts without headway', async () => {
      let runs = 0;
      kit.startRunner([
        handler(async () => {
          throw new TransientError(`the source is away (${(runs += 1)})`);
        }),
      ]);
      const operation = await kit.ended(await kit.begin({ kind: 'test', payload: {} }));
      expect(statusOf(operation)).to.include({ code: 14, message: 'the source is away (8)' });
      expect(runs).to.equal(8);
    });

    it('does not count attempts that saved a new checkpoint, and hands each attempt the last one', async () => {
      const seen: unknown[] = [];
      kit.startRunner([
        handler(async (job) => {
          seen.push(job.checkpoint);
          const at = ((job.checkpoint as { at: number } | undefined)?.at ?? 0) + 1;
          if (at > 20) return leavesARow(job.operationId);
          await job.saveCheckpoint({ at });
          throw new TransientError('a broken connection');
        }),
      ]);
      const operation = await kit.ended(await kit.begin({ kind: 'test', payload: {} }));
      expect(operation.error).to.equal(null);
      expect(seen).to.deep.equal([undefined, ...Array.from({ length: 20 }, (_, index) => ({ at: index + 1 }))]);
    });

    it('counts attempts that save the same checkpoint again', async () => {
      let runs = 0;
      kit.startRunner([
        handler(async (job) => {
          runs += 1;
          await job.saveCheckpoint({ at: 1 });
          throw new TransientError('a broken connection');
        }),
      ]);
      const operation = await kit.ended(await kit.begin({ kind: 'test', payload: {} }));
      expect(statusOf(operation).code).to.equal(14);
      // The first attempt made headway; 8 more did not.
      expect(runs).to.equal(9);
    });

    it('ends what makes headway for ever and never arrives', async () => {
      let runs = 0;
      kit.startRunner(
        [
          handler(async (job) => {
            await job.saveCheckpoint({ at: (runs += 1) });
            throw new TransientError('a broken connection');
          }),
        ],
        { bounds: { maxAttempts: 12 } },
      );
      const operation = await kit.ended(await kit.begin({ kind: 'test', payload: {} }));
      expect(statusOf(operation)).to.include({ code: 14, message: 'Given up after 12 attempts: a broken connection' });
      expect(runs).to.equal(12);
    });

    it('shows an unknown error as INTERNAL without its text after 3 attempts, and logs it as a bug', async () => {
      kit.startRunner([
        handler(async () => {
          throw new Error('secret internals');
        }),
      ]);
      const id = await kit.begin({ kind: 'test', payload: {} });
      const operation = await kit.ended(id);
      expect(statusOf(operation)).to.include({ code: 13, message: `Internal error, operation ${id}` });
      const bugs = kit.log.lines.filter(({ level }) => level === 'error');
      expect(bugs.map(({ fields }) => (fields['err'] as Error).message)).to.deep.equal(Array(3).fill('secret internals'));
    });

    it('ends the operation with a DomainError that the effect throws; nothing of the effect is kept', async () => {
      kit.startRunner([
        handler(async (job) => async (em) => {
          await leavesARow(job.operationId)(em);
          await em.flush();
          throw new DomainError('FAILED_PRECONDITION', 'the folder is gone');
        }),
      ]);
      const operation = await kit.ended(await kit.begin({ kind: 'test', payload: {} }));
      expect(statusOf(operation)).to.include({ code: 9, message: 'the folder is gone' });
      expect(await kit.effects()).to.deep.equal([]);
    });

    it('ends jobs whose attempts all ended without a word, as of a process that the job kills', async () => {
      const id = await kit.begin({ kind: 'test', payload: {} });
      await kit.sql('update jobs set attempt = 8, stalled_attempts = 8');
      let runs = 0;
      kit.startRunner([
        handler(
          async () => {
            runs += 1;
            return async () => emptyResponse();
          },
          async (em) => {
            await leavesARow('abandoned')(em);
          },
        ),
      ]);
      const operation = await kit.ended(id);
      expect(statusOf(operation)).to.include({
        code: 14,
        message: 'Given up after 8 attempts: what ran it ended each time without a word',
      });
      expect(runs).to.equal(0);
      expect(await kit.effects()).to.have.length(1);
    });

    it('tries a clean-up again that failed, before the operation is done', async () => {
      let cleanUps = 0;
      kit.startRunner([
        handler(
          async () => {
            throw new DomainError('NOT_FOUND', 'the source is not there');
          },
          async (em) => {
            if ((cleanUps += 1) < 3) throw new Error('the clean-up fails');
            await leavesARow('abandoned')(em);
          },
        ),
      ]);
      const operation = await kit.ended(await kit.begin({ kind: 'test', payload: {} }));
      expect(statusOf(operation)).to.include({ code: 5, message: 'the source is not there' });
      expect(cleanUps).to.equal(3);
      expect(await kit.effects()).to.have.length(1);
    });

    it('ends an operation whose clean-up never succeeds', async () => {
      kit.startRunner(
        [
          handler(
            async () => {
              throw new DomainError('NOT_FOUND', 'the source is not there');
            },
            async () => {
              throw new Error('the clean-up fails');
            },
          ),
        ],
        { bounds: { maxStalledAttempts: 2 } },
      );
      const operation = await kit.ended(await kit.begin({ kind: 'test', payload: {} }));
      expect(statusOf(operation).code).to.equal(14);
    });
  });

  describe('cancellation', () => {
    it('aborts the handler, cleans up, and ends the operation CANCELLED', async () => {
      const work = untilAborted();
      kit.startRunner([
        handler(work.run, async (em, _payload, error) => {
          await leavesARow(error.code)(em);
        }),
      ]);
      const id = await kit.begin({ kind: 'test', payload: {} }, { cancellable: true });
      const job = await work.first();
      const flagged = await kit.operations.cancel(kit.call(), await kit.operation(id));
      expect(flagged.done).to.equal(false);
      const operation = await kit.ended(id);
      expect((job.signal.reason as JobAborted).why).to.equal('cancelled');
      expect(statusOf(operation)).to.include({ code: 1, message: 'The operation was cancelled' });
      expect(operation.cancelRequestedAt).to.be.instanceOf(Date);
      expect((await kit.effects()).map((row) => row.operationId)).to.deep.equal(['CANCELLED']);
    });

    it('ends a cancelled job that waits in the queue without running it, though no place is free', async () => {
      const work = untilAborted();
      kit.startRunner([handler(work.run)], { concurrency: 1 });
      await kit.begin({ kind: 'test', payload: {} });
      await work.first();
      const queued = await kit.begin({ kind: 'test', payload: {} }, { cancellable: true });
      await kit.operations.cancel(kit.call(), await kit.operation(queued));
      expect(statusOf(await kit.ended(queued)).code).to.equal(1);
      expect(work.started).to.have.length(1);
    });

    it('ends a cancelled job that waits for its next attempt', async () => {
      kit.startRunner(
        [
          handler(async () => {
            throw new TransientError('the source is away');
          }),
        ],
        { bounds: { firstBackOffMs: 600_000, maxBackOffMs: 600_000 } },
      );
      const id = await kit.begin({ kind: 'test', payload: {} }, { cancellable: true });
      await eventually(async () => ((await kit.job(id))?.lastError != null ? true : undefined));
      await kit.operations.cancel(kit.call(), await kit.operation(id));
      expect(statusOf(await kit.ended(id)).code).to.equal(1);
    });

    it('lets work that is done anyway end well', async () => {
      const proceed = Promise.withResolvers<void>();
      const started = Promise.withResolvers<void>();
      kit.startRunner([
        handler(async (job) => {
          started.resolve();
          await proceed.promise;
          return leavesARow(job.operationId);
        }),
      ]);
      const id = await kit.begin({ kind: 'test', payload: {} }, { cancellable: true });
      await started.promise;
      await kit.operations.cancel(kit.call(), await kit.operation(id));
      proceed.resolve();
      expect((await kit.ended(id)).error).to.equal(null);
      expect(await kit.effects()).to.have.length(1);
    });

    it('shows CANCELLED when the work fails of what the cancelling call has changed', async () => {
      kit.startRunner([
        handler(async (job) => {
          // As Delete does: the flag and the change come in one commit, and the handler notices the change first.
          await kit.sql('update jobs set cancel_requested = true where operation_id = $1', [job.operationId]);
          throw new DomainError('FAILED_PRECONDITION', 'the image is being deleted');
        }),
      ]);
      const operation = await kit.ended(await kit.begin({ kind: 'test', payload: {} }));
      expect(statusOf(operation).code).to.equal(1);
    });

    it('reaches a job by a renewal alone, when the ring was lost', async () => {
      const work = untilAborted();
      kit.startRunner([handler(work.run)], { bounds: { renewMs: 30 } });
      const id = await kit.begin({ kind: 'test', payload: {} });
      await work.first();
      await kit.sql('update jobs set cancel_requested = true where operation_id = $1', [id]);
      expect(statusOf(await kit.ended(id)).code).to.equal(1);
    });

    it('holds a job back that follows a cancelled one, until that has ended', async () => {
      const order: string[] = [];
      const proceed = Promise.withResolvers<void>();
      const work = untilAborted();
      const imports: JobHandler = {
        kind: 'import',
        run: async (job) => {
          try {
            return await work.run(job);
          } finally {
            await proceed.promise;
            order.push('import ended');
          }
        },
        abandon: async () => {},
      };
      const deletes: JobHandler = {
        kind: 'delete',
        run: async (job) => {
          order.push('delete began');
          await kit.operations.whenOthersEnded(job.payload as string, job.operationId, job.signal);
          return async () => emptyResponse();
        },
        abandon: async () => {},
      };
      kit.startRunner([imports, deletes]);
      const create = await kit.begin({ kind: 'import', payload: {} });
      await work.first();
      const { id } = await kit.operations.begin(kit.call(), async (em) => {
        await kit.operations.requestCancel(em, 'fd8resource');
        return {
          folderId: 'b1gfolder',
          resourceId: 'fd8resource',
          resourceKind: 'compute.image',
          description: 'Delete',
          metadata: emptyResponse(),
          job: { kind: 'delete', payload: 'fd8resource' },
        };
      });
      await eventually(() => (work.started[0]!.signal.aborted ? true : undefined));
      // Jobs that came later are run, this one is not.
      await kit.ended(await kit.begin({ kind: 'delete', payload: 'fd8other' }, { resourceId: 'fd8other' }));
      expect(order).to.deep.equal(['delete began']);
      proceed.resolve();
      await kit.ended(id);
      expect(statusOf(await kit.operation(create)).code).to.equal(1);
      expect(order).to.deep.equal(['delete began', 'import ended', 'delete began']);
    });
  });

  describe('fencing', () => {
    it('changes nothing when another attempt has taken the job: no checkpoint, no effect, no end', async () => {
      const proceed = Promise.withResolvers<void>();
      const outcome = Promise.withResolvers<unknown>();
      kit.startRunner([
        handler(async (job) => {
          await job.saveCheckpoint({ at: 1 });
          await kit.sql('update jobs set attempt = attempt + 1');
          await job.saveCheckpoint({ at: 2 }).catch(outcome.resolve);
          await proceed.promise;
          return leavesARow(job.operationId);
        }),
      ]);
      const id = await kit.begin({ kind: 'test', payload: {} });
      expect(await outcome.promise).to.be.instanceOf(LeaseLost);
      proceed.resolve();
      await eventually(() => kit.log.lines.find(({ fields }) => fields['outcome'] === 'lost'));
      expect((await kit.operation(id)).done).to.equal(false);
      expect(await kit.job(id)).to.deep.include({ attempt: 2, checkpoint: { at: 1 } });
      expect(await kit.effects()).to.deep.equal([]);
    });

    it('changes nothing after its lease has ended, though nobody has taken the job', async () => {
      let runs = 0;
      kit.startRunner([
        handler(async (job) => {
          if ((runs += 1) > 1) return async () => response('second attempt');
          await kit.sql(`update jobs set lease_until = now() - interval '1 second'`);
          return leavesARow(job.operationId);
        }),
      ]);
      const operation = await kit.ended(await kit.begin({ kind: 'test', payload: {} }));
      expect(Buffer.from(operation.response!)).to.deep.equal(Buffer.from(response('second attempt').value));
      expect(await kit.effects()).to.deep.equal([]);
    });

    it('aborts a handler before its lease ends when it cannot be renewed', async () => {
      const work = untilAborted();
      let isAway = false;
      const runner = kit.startRunner([handler(work.run)], {
        fork: () => {
          if (isAway) throw Object.assign(new Error('Connection terminated'), { code: '57P01' });
          return kit.fork();
        },
        bounds: { leaseMs: 1_500, renewMs: 100, leaseMarginMs: 700 },
      });
      const id = await kit.begin({ kind: 'test', payload: {} });
      const job = await work.first();
      isAway = true;
      await eventually(() => (job.signal.aborted ? true : undefined));
      const [row] = await kit.sql<{ left: boolean }>('select lease_until > clock_timestamp() as left from jobs');
      expect((job.signal.reason as JobAborted).why).to.equal('lease-lost');
      expect(row).to.deep.equal({ left: true });
      expect((await kit.operation(id)).done).to.equal(false);
      isAway = false;
      await runner[Symbol.asyncDispose]();
    });

    it('claims a job again whose lease has ended', async () => {
      const id = await kit.begin({ kind: 'test', payload: {} });
      await kit.sql(
        `update jobs set attempt = 3, stalled_attempts = 2, lease_owner = 'a killed process', lease_until = now() - interval '1 ms',
         checkpoint = '{"at": 7}'`,
      );
      const seen: unknown[] = [];
      kit.startRunner([
        handler(async ({ attempt, checkpoint }) => {
          seen.push({ attempt, checkpoint });
          return async () => emptyResponse();
        }),
      ]);
      await kit.ended(id);
      expect(seen).to.deep.equal([{ attempt: 4, checkpoint: { at: 7 } }]);
    });

    it('renews leases for as long as the work takes', async () => {
      const proceed = Promise.withResolvers<void>();
      let runs = 0;
      kit.startRunner(
        [
          handler(async () => {
            runs += 1;
            await proceed.promise;
            return async () => emptyResponse();
          }),
        ],
        { bounds: { leaseMs: 1_000, renewMs: 50, leaseMarginMs: 100 } },
      );
      const id = await kit.begin({ kind: 'test', payload: {} });
      const first = await eventually(async () => (await kit.job(id))?.leaseUntil ?? undefined);
      await eventually(async () => {
        const { leaseUntil } = (await kit.job(id))!;
        return leaseUntil!.getTime() > first.getTime() + 1_500 ? true : undefined;
      });
      proceed.resolve();
      expect((await kit.ended(id)).error).to.equal(null);
      expect(runs).to.equal(1);
    });
  });

  describe('shutdown', () => {
    it('gives the job back at once, with its checkpoint, and does not count the attempt', async () => {
      const work = untilAborted();
      const first = kit.startRunner([
        handler(async (job) => {
          await job.saveCheckpoint({ at: 3 }, { pinnedRoots: ['root'] });
          return work.run(job);
        }),
      ]);
      const id = await kit.begin({ kind: 'test', payload: {} });
      const job = await work.first();
      await first[Symbol.asyncDispose]();
      expect((job.signal.reason as JobAborted).why).to.equal('shutdown');
      expect(await kit.job(id)).to.deep.include({
        attempt: 1,
        stalledAttempts: 0,
        leaseUntil: null,
        leaseOwner: null,
        checkpoint: { at: 3 },
        pinnedRoots: ['root'],
      });
      const seen: unknown[] = [];
      kit.startRunner([
        handler(async ({ attempt, checkpoint }) => {
          seen.push({ attempt, checkpoint });
          return async () => emptyResponse();
        }),
      ]);
      await kit.ended(id);
      expect(seen).to.deep.equal([{ attempt: 2, checkpoint: { at: 3 } }]);
    });

    it('does not count attempts that a shutdown ended, however many', async () => {
      const id = await kit.begin({ kind: 'test', payload: {} });
      for (let attempt = 1; attempt <= 10; attempt += 1) {
        const work = untilAborted();
        const runner = kit.startRunner([handler(work.run)]);
        await work.first();
        await runner[Symbol.asyncDispose]();
        expect(await kit.job(id)).to.include({ attempt, stalledAttempts: 0 });
      }
    });

    it('does not wait for ever for a handler that ignores its signal', async () => {
      const work = Promise.withResolvers<never>();
      const started = Promise.withResolvers<void>();
      const runner = kit.startRunner(
        [
          handler(() => {
            started.resolve();
            return work.promise;
          }),
        ],
        { bounds: { shutdownMs: 50 } },
      );
      const id = await kit.begin({ kind: 'test', payload: {} });
      await started.promise;
      await runner[Symbol.asyncDispose]();
      // Nobody else may work on it while the handler still does: the lease is kept until it ends.
      expect((await kit.job(id))!.leaseUntil).to.be.instanceOf(Date);
      work.reject(new Error('at last'));
    });

    it('ends well what is done in time', async () => {
      const started = Promise.withResolvers<void>();
      const runner = kit.startRunner([
        handler(async (job) => {
          started.resolve();
          await new Promise((resolve) => setTimeout(resolve, 30));
          return leavesARow(job.operationId);
        }),
      ]);
      const id = await kit.begin({ kind: 'test', payload: {} });
      await started.promise;
      await runner[Symbol.asyncDispose]();
      expect((await kit.operation(id)).done).to.equal(true);
      expect(await kit.effects()).to.have.length(1);
    });
  });

  it('writes progress to the operation, coalesced, and never more bytes done than there are', async () => {
    const proceed = Promise.withResolvers<void>();
    kit.startRunner([
      handler(async (job) => {
        for (let bytesDone = 0; bytesDone <= 1_000; bytesDone += 1) {
          job.progress({ bytesDone, bytesTotal: 800, phase: 'importing' });
        }
        await proceed.promise;
        return async () => emptyResponse();
      }),
    ]);
    const id = await kit.begin({ kind: 'test', payload: {} });
    const before = await kit.operation(id);
    const during = await eventually(async () => {
      const operation = await kit.operation(id);
      return operation.bytesDone > 0 ? operation : undefined;
    });
    expect(during).to.include({ bytesDone: 800, bytesTotal: 800, phase: 'importing' });
    expect(during.modifiedAt.getTime()).to.be.at.least(before.modifiedAt.getTime());
    proceed.resolve();
    expect(await kit.ended(id)).to.include({ bytesDone: 800, bytesPerSecond: 0, phase: 'done' });
  });

  it('logs one line for each attempt, without the payload', async () => {
    kit.startRunner([handler(async () => async () => emptyResponse())]);
    const id = await kit.begin({ kind: 'test', payload: { uri: 'https://example.com/?signature=secret' } });
    await kit.ended(id);
    const line = await eventually(() => kit.log.lines[0]);
    expect(line).to.deep.include({ level: 'info', message: 'job ended' });
    expect(line.fields).to.include({ operationId: id, kind: 'test', attempt: 1, outcome: 'done' });
    expect(JSON.stringify(kit.log.lines)).not.to.include('secret');
    expect(kit.log.lines).to.have.length(1);
  });
});
