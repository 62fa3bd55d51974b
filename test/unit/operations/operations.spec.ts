import { expect } from 'chai';
import type { Call } from '../../../src/iam/call.ts';
import { IdempotencyKey } from '../../../src/operations/idempotency-key.entity.ts';
import { Job } from '../../../src/operations/job.entity.ts';
import { listPinnedRoots } from '../../../src/operations/job-queries.ts';
import { Operation } from '../../../src/operations/operation.entity.ts';
import { Operations } from '../../../src/operations/operations.ts';
import { DomainError, notFound } from '../../../src/platform/errors.ts';
import { expectRefusal, someAccount } from '../../support/call.ts';
import {
  emptyResponse,
  eventually,
  leavesARow,
  newOperation,
  OperationsKit,
  response,
  someMetadata,
} from '../../support/operations-kit.ts';

const keyed = (key: string, request = 'a request', overrides: Partial<Call> = {}): Partial<Call> => ({
  idempotencyKey: key,
  requestBytes: () => Buffer.from(request),
  ...overrides,
});

describe('Operations', () => {
  let kit: OperationsKit;
  before(async () => {
    kit = await OperationsKit.open();
  });
  after(() => kit[Symbol.asyncDispose]());
  beforeEach(() => kit.sql('truncate operations, jobs, idempotency_keys, effects'));

  const counts = async () => ({
    operations: await kit.fork().count(Operation),
    jobs: await kit.fork().count(Job),
    keys: await kit.fork().count(IdempotencyKey),
    effects: (await kit.effects()).length,
  });

  describe('begin', () => {
    it('answers an operation that is done when the work was', async () => {
      const operation = await kit.operations.begin(kit.call(), async (em) => {
        await leavesARow('work')(em);
        return newOperation({ response: response('answer') });
      });
      expect(operation).to.deep.include({
        description: 'Test',
        createdBy: someAccount.id,
        done: true,
        metadata: { typeUrl: someMetadata.typeUrl, value: Buffer.from(someMetadata.value) },
        result: {
          $case: 'response',
          value: { typeUrl: response('answer').typeUrl, value: Buffer.from(response('answer').value) },
        },
      });
      expect(operation.id).to.match(/^fd8[0-9a-v]{17}$/);
      expect(operation.createdAt).to.deep.equal(operation.modifiedAt);
      expect(await counts()).to.deep.equal({ operations: 1, jobs: 0, keys: 0, effects: 1 });
    });

    it('answers an operation with typed metadata and without a result when a job is to do the work', async () => {
      const operation = await kit.operations.begin(kit.call(), () =>
        newOperation({ cancellable: true, job: { kind: 'test', payload: { uri: 'x' }, pinnedRoots: ['root a', 'root b'] } }),
      );
      expect(operation).to.include({ done: false, result: undefined });
      expect(operation.metadata!.typeUrl).to.equal(someMetadata.typeUrl);
      const job = (await kit.job(operation.id))!;
      expect(job).to.deep.include({ kind: 'test', payload: { uri: 'x' }, attempt: 0, pinnedRoots: ['root a', 'root b'] });
      expect((await listPinnedRoots(kit.fork())).sort()).to.deep.equal(['root a', 'root b']);
    });

    it('keeps nothing of a call that fails, not even its key', async () => {
      const failing = kit.operations.begin(kit.call(keyed('k')), async (em) => {
        await leavesARow('work')(em);
        await em.flush();
        throw notFound('Image', 'x');
      });
      await expectRefusal(failing, 'NOT_FOUND');
      expect(await counts()).to.deep.equal({ operations: 0, jobs: 0, keys: 0, effects: 0 });
      const second = await kit.operations.begin(kit.call(keyed('k')), () => newOperation({ response: emptyResponse() }));
      expect(second.done).to.equal(true);
    });

    it('refuses a call without a subject', async () => {
      const call = kit.call({ subject: undefined });
      await expectRefusal(
        kit.operations.begin(call, () => newOperation({ response: emptyResponse() })),
        'UNAUTHENTICATED',
      );
    });

    it('rings when others can see the job, and not for work that is done', async () => {
      const seen: Promise<number>[] = [];
      using _subscription = kit.bell.subscribe({ onWork: () => seen.push(kit.fork().count(Job)), onCancel: () => {} });
      await kit.operations.begin(kit.call(), () => newOperation({ response: emptyResponse() }));
      await kit.begin({ kind: 'test', payload: {} });
      expect(await Promise.all(seen)).to.deep.equal([1]);
    });
  });

  describe('idempotency keys', () => {
    it('answer fifty concurrent calls with one operation, made once', async () => {
      let works = 0;
      const answers = await Promise.all(
        Array.from({ length: 50 }, () =>
          kit.operations.begin(kit.call(keyed('k')), async (em) => {
            works += 1;
            await leavesARow('work')(em);
            return newOperation({ job: { kind: 'test', payload: {} } });
          }),
        ),
      );
      expect(new Set(answers.map(({ id }) => id)).size).to.equal(1);
      expect(works).to.equal(1);
      expect(await counts()).to.deep.equal({ operations: 1, jobs: 1, keys: 1, effects: 1 });
    });

    it('hold across processes: a repeat waits for the transaction of the first call', async () => {
      // Another process has another instance; what they share is the database.
      const other = new Operations({ bell: kit.bell, fork: kit.fork });
      const proceed = Promise.withResolvers<void>();
      const inside = Promise.withResolvers<void>();
      const first = kit.operations.begin(kit.call(keyed('k')), async () => {
        inside.resolve();
        await proceed.promise;
        return newOperation({ job: { kind: 'test', payload: {} } });
      });
      await inside.promise;
      let isAnswered = false;
      const second = other
        .begin(kit.call(keyed('k')), () => {
          throw new Error('the work must not be done twice');
        })
        .finally(() => (isAnswered = true));
      await eventually(async () => {
        const waiting = await kit.sql(
          `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
        );
        return waiting.length > 0 ? true : undefined;
      });
      expect(isAnswered).to.equal(false);
      proceed.resolve();
      expect((await second).id).to.equal((await first).id);
    });

    it('let the repeat do the work when the first call fails', async () => {
      const other = new Operations({ bell: kit.bell, fork: kit.fork });
      const proceed = Promise.withResolvers<void>();
      const inside = Promise.withResolvers<void>();
      const first = kit.operations.begin(kit.call(keyed('k')), async () => {
        inside.resolve();
        await proceed.promise;
        throw notFound('Image', 'x');
      });
      await inside.promise;
      const repeats = [kit.operations, other].map((operations) =>
        operations.begin(kit.call(keyed('k')), () => newOperation({ response: emptyResponse() })),
      );
      proceed.resolve();
      await expectRefusal(first, 'NOT_FOUND');
      const [one, two] = await Promise.all(repeats);
      expect(one!.id).to.equal(two!.id);
    });

    it('answer with the state that the operation has by then', async () => {
      const begin = () => kit.operations.begin(kit.call(keyed('k')), () => newOperation({ job: { kind: 'test', payload: {} } }));
      const first = await begin();
      await using _runner = kit.startRunner([
        { kind: 'test', run: async () => async () => response('done by now'), abandon: async () => {} },
      ]);
      await kit.ended(first.id);
      const again = await begin();
      expect(again).to.include({ id: first.id, done: true });
      expect(again.result!.$case).to.equal('response');
    });

    it('refuse another request under the same key', async () => {
      await kit.operations.begin(kit.call(keyed('k', 'a')), () => newOperation({ response: emptyResponse() }));
      const other = kit.operations.begin(kit.call(keyed('k', 'b')), () => newOperation({ response: emptyResponse() }));
      await expectRefusal(other, 'INVALID_ARGUMENT', /idempotency-key/);
      expect((await counts()).operations).to.equal(1);
    });

    it('belong to one subject and one method', async () => {
      const answers = await Promise.all(
        [
          keyed('k'),
          keyed('k', 'a request', { method: 'test.TestService/Other' }),
          keyed('k', 'a request', { subject: { id: 'ajeanother', type: 'serviceAccount' } }),
          keyed('l'),
        ].map((overrides) => kit.operations.begin(kit.call(overrides), () => newOperation({ response: emptyResponse() }))),
      );
      expect(new Set(answers.map(({ id }) => id)).size).to.equal(4);
    });

    it('are forgotten after 24 hours', async () => {
      const begin = (request: string) =>
        kit.operations.begin(kit.call(keyed('k', request)), () => newOperation({ response: emptyResponse() }));
      const first = await begin('a');
      await kit.sql(`update idempotency_keys set created_at = now() - interval '24 hours 1 second'`);
      const second = await begin('b');
      expect(second.id).not.to.equal(first.id);
      expect((await begin('b')).id).to.equal(second.id);
    });

    it('are forgotten when the configured time has passed, not before', async () => {
      const hourMs = 60 * 60 * 1000;
      const operations = new Operations({ bell: kit.bell, fork: kit.fork, keyWindowMs: 48 * hourMs });
      const begin = () => operations.begin(kit.call(keyed('k')), () => newOperation({ response: emptyResponse() }));
      const first = await begin();
      const age = (hours: number) => kit.sql(`update idempotency_keys set created_at = now() - $1 * interval '1 hour'`, [hours]);
      await age(47);
      expect((await begin()).id).to.equal(first.id);
      await age(49);
      expect((await begin()).id).not.to.equal(first.id);
    });

    it('are as good as forgotten when their operation is', async () => {
      const begin = () => kit.operations.begin(kit.call(keyed('k')), () => newOperation({ response: emptyResponse() }));
      const first = await begin();
      await kit.sql('delete from operations');
      const second = await begin();
      expect(second.id).not.to.equal(first.id);
      expect((await begin()).id).to.equal(second.id);
    });
  });

  describe('idempotent', () => {
    it('answers a repeat before the method looks at anything: a repeated Delete finds no resource', async () => {
      let isDeleted = false;
      const method = kit.operations.idempotent(async (_request: object, call: Call) => {
        if (isDeleted) throw notFound('Image', 'x');
        const operation = await kit.operations.begin(call, () => newOperation({ response: emptyResponse() }));
        isDeleted = true;
        return operation;
      });
      const first = await method({}, kit.call(keyed('k')));
      expect((await method({}, kit.call(keyed('k')))).id).to.equal(first.id);
      await expectRefusal(method({}, kit.call(keyed('l'))), 'NOT_FOUND');
      await expectRefusal(method({}, kit.call(keyed('k', 'another request'))), 'INVALID_ARGUMENT');
    });

    it('answers a repeat that overtook its look at the key and found the resource gone', async () => {
      const looked = Promise.withResolvers<void>();
      const proceed = Promise.withResolvers<void>();
      const repeat = kit.operations.idempotent(async () => {
        looked.resolve();
        await proceed.promise;
        throw notFound('Image', 'x');
      })({}, kit.call(keyed('k')));
      await looked.promise;
      const first = await kit.operations.begin(kit.call(keyed('k')), () => newOperation({ response: emptyResponse() }));
      proceed.resolve();
      expect((await repeat).id).to.equal(first.id);
    });
  });

  describe('running', () => {
    it('answers a second call with the operation that the first one started, under its own key as well', async () => {
      const remove = (key: string) =>
        kit.operations.begin(
          kit.call(keyed(key)),
          async (em) =>
            (await kit.operations.running(em, 'fd8x', 'Delete image')) ??
            newOperation({ resourceId: 'fd8x', description: 'Delete image', job: { kind: 'test', payload: {} } }),
        );
      const first = await remove('k');
      expect((await remove('l')).id).to.equal(first.id);
      expect((await remove('l')).id).to.equal(first.id);
      expect(await kit.operations.running(kit.fork(), 'fd8x', 'Update image')).to.equal(undefined);
    });
  });

  describe('cancel', () => {
    it('answers an operation that is done unchanged', async () => {
      const { id } = await kit.operations.begin(kit.call(), () => newOperation({ cancellable: true, response: emptyResponse() }));
      const before = await kit.operation(id);
      expect(await kit.operations.cancel(kit.call(), before)).to.deep.include({ id, done: true });
      expect(await kit.operation(id)).to.deep.include({ modifiedAt: before.modifiedAt, cancelRequestedAt: null });
    });

    it('refuses what cannot be cancelled while it runs', async () => {
      const id = await kit.begin({ kind: 'test', payload: {} });
      await expectRefusal(
        kit.operations.cancel(kit.call(), await kit.operation(id)),
        'FAILED_PRECONDITION',
        /wait until it is done/,
      );
      expect((await kit.job(id))!.cancelRequested).to.equal(false);
    });

    it('is the same the second time', async () => {
      const id = await kit.begin({ kind: 'test', payload: {} }, { cancellable: true });
      await kit.operations.cancel(kit.call(), await kit.operation(id));
      const { cancelRequestedAt } = await kit.operation(id);
      await kit.operations.cancel(kit.call(), await kit.operation(id));
      expect((await kit.operation(id)).cancelRequestedAt).to.deep.equal(cancelRequestedAt);
    });

    it('races with the end of the work: whoever commits first decides, and every operation ends once', async () => {
      await using _runner = kit.startRunner([
        { kind: 'test', run: async ({ operationId }) => leavesARow(operationId), abandon: async () => {} },
      ]);
      const ids = await Promise.all(
        Array.from({ length: 60 }, async () => {
          const id = await kit.begin({ kind: 'test', payload: {} }, { cancellable: true });
          await kit.operations.cancel(kit.call(), await kit.operation(id));
          return id;
        }),
      );
      const rows = new Map<string, number>();
      const ended = await Promise.all(ids.map((id) => kit.ended(id)));
      for (const { operationId } of await kit.effects()) rows.set(operationId, (rows.get(operationId) ?? 0) + 1);
      for (const operation of ended) expect(rows.get(operation.id) ?? 0).to.equal(operation.error == null ? 1 : 0);
      expect(await kit.fork().count(Job)).to.equal(0);
    });
  });

  it('waits in a handler for older operations on the resource only', async () => {
    const older = await kit.begin({ kind: 'test', payload: {} }, { resourceId: 'fd8x' });
    const own = await kit.begin({ kind: 'test', payload: {} }, { resourceId: 'fd8x' });
    await kit.sql(`update operations set created_at = created_at - interval '1 second' where id = $1`, [older]);
    await kit.begin({ kind: 'test', payload: {} }, { resourceId: 'fd8x' });
    const abort = new AbortController();
    await kit.operations.whenOthersEnded('fd8x', older, abort.signal);
    const waiting = kit.operations.whenOthersEnded('fd8x', own, abort.signal);
    abort.abort(new DomainError('ABORTED', 'enough'));
    await expectRefusal(waiting, 'ABORTED');
    await kit.sql('update operations set done = true where id = $1', [older]);
    await kit.operations.whenOthersEnded('fd8x', own, new AbortController().signal);
  });
});
