import { expect } from 'chai';
import { AccessBindingAction, AccessBindingsOperationResult } from '../../../generated/yandex/cloud/access/access.ts';
import type { AccessRules } from '../../../src/iam/access-control.ts';
import type { Call } from '../../../src/iam/call.ts';
import { removeHistory } from '../../../src/operations/history.ts';
import type { JobHandler } from '../../../src/operations/job-handler.ts';
import { listOperations } from '../../../src/operations/list-operations.ts';
import type { ProgressMessage } from '../../../src/operations/operation.mapper.ts';
import { operationMethods } from '../../../src/operations/operation-service.ts';
import { Operation } from '../../../src/operations/operation.entity.ts';
import { pack } from '../../../src/operations/pack.ts';
import { progressMethods } from '../../../src/operations/progress-service.ts';
import { DomainError } from '../../../src/platform/errors.ts';
import { everybodyMay, expectRefusal } from '../../support/call.ts';
import { emptyResponse, eventually, newOperation, OperationsKit, someMetadata } from '../../support/operations-kit.ts';

describe('The services of operations', () => {
  let kit: OperationsKit;
  before(async () => {
    kit = await OperationsKit.open();
  });
  after(() => kit[Symbol.asyncDispose]());
  beforeEach(() => kit.sql('truncate operations, jobs, idempotency_keys'));

  const findOperation = async (id: string) => (await kit.fork().findOne(Operation, { id })) ?? undefined;

  describe('OperationService', () => {
    const methods = () => operationMethods({ operations: kit.operations, findOperation });

    it('Get answers the operation with its metadata, and says when to ask again', async () => {
      const id = await kit.begin({ kind: 'test', payload: {} });
      const headers: [string, string][] = [];
      const operation = await methods().get({ operationId: id }, kit.call({ setHeader: (...header) => headers.push(header) }));
      expect(operation).to.include({ id, done: false, result: undefined });
      expect(operation.metadata!.typeUrl).to.equal(someMetadata.typeUrl);
      expect(headers).to.deep.equal([['x-operation-poll-interval', '1']]);
    });

    it('Get says no more of asking again when the operation is done', async () => {
      const { id } = await kit.operations.begin(kit.call(), () => newOperation({ response: emptyResponse() }));
      const call = kit.call({
        setHeader: () => {
          throw new Error('no header is expected');
        },
      });
      expect((await methods().get({ operationId: id }, call)).done).to.equal(true);
    });

    it('Get and Cancel answer NOT_FOUND for an unknown id, and UNAUTHENTICATED for nobody', async () => {
      await expectRefusal(methods().get({ operationId: 'fd8none' }, kit.call()), 'NOT_FOUND', 'Operation fd8none not found');
      await expectRefusal(methods().cancel({ operationId: 'fd8none' }, kit.call()), 'NOT_FOUND');
      const operationId = await kit.begin({ kind: 'test', payload: {} }, { cancellable: true });
      await expectRefusal(methods().get({ operationId }, kit.call({ subject: undefined })), 'UNAUTHENTICATED');
      await expectRefusal(methods().cancel({ operationId }, kit.call({ subject: undefined })), 'UNAUTHENTICATED');
    });

    it('Get shows the error of a failed operation as google.rpc.Status', async () => {
      const failing: JobHandler = {
        kind: 'fails',
        run: async () => {
          throw new DomainError('FAILED_PRECONDITION', 'no');
        },
        abandon: async () => {},
      };
      await using _runner = kit.startRunner([failing]);
      const id = await kit.begin({ kind: 'fails', payload: {} });
      await kit.ended(id);
      const operation = await methods().get({ operationId: id }, kit.call());
      expect(operation.result).to.deep.equal({ $case: 'error', value: { code: 9, message: 'no', details: [] } });
    });

    it('Cancel flags the operation and answers it as it is then', async () => {
      const operationId = await kit.begin({ kind: 'test', payload: {} }, { cancellable: true });
      expect(await methods().cancel({ operationId }, kit.call())).to.include({ id: operationId, done: false });
      expect((await kit.job(operationId))!.cancelRequested).to.equal(true);
    });
  });

  describe('ProgressService', () => {
    it('Get answers the progress of an operation that nobody works on yet', async () => {
      const id = await kit.begin({ kind: 'test', payload: {} });
      const progress = await progressMethods({ findOperation }).get({ operationId: id }, kit.call());
      expect(progress).to.include({ operationId: id, bytesDone: 0n, bytesTotal: 0n, done: false, phase: 'queued' });
    });

    it('Watch sends the progress at once, then every change, and ends after the end', async () => {
      const proceed = Promise.withResolvers<void>();
      await using _runner = kit.startRunner([
        {
          kind: 'moves',
          run: async (job) => {
            job.progress({ bytesDone: 5, bytesTotal: 10, phase: 'importing' });
            await proceed.promise;
            return async () => emptyResponse();
          },
          abandon: async () => {},
        },
      ]);
      const id = await kit.begin({ kind: 'moves', payload: {} });
      const seen: ProgressMessage[] = [];
      for await (const progress of progressMethods({ findOperation, watchIntervalMs: 5 }).watch(
        { operationId: id },
        kit.call(),
      )) {
        seen.push(progress);
        if (progress.bytesDone === 5n) proceed.resolve();
      }
      expect(seen.at(-1)).to.include({ done: true, phase: 'done', bytesDone: 5n, bytesTotal: 10n });
      expect(seen.slice(0, -1).every(({ done }) => !done)).to.equal(true);
      expect(seen.some(({ phase }) => phase === 'importing')).to.equal(true);
    });

    it('Watch ends when the client goes away', async () => {
      const id = await kit.begin({ kind: 'test', payload: {} });
      const gone = new AbortController();
      const { watch } = progressMethods({ findOperation, watchIntervalMs: 60_000 });
      let seen = 0;
      for await (const _progress of watch({ operationId: id }, kit.call({ signal: gone.signal }))) {
        seen += 1;
        setImmediate(() => gone.abort());
      }
      expect(seen).to.equal(1);
    });

    it('Watch refuses more streams than it can bear, and takes new ones when others have ended', async () => {
      const id = await kit.begin({ kind: 'test', payload: {} });
      const { watch } = progressMethods({ findOperation, maxWatchers: 1 });
      const first = watch({ operationId: id }, kit.call())[Symbol.asyncIterator]();
      await first.next();
      const second = watch({ operationId: id }, kit.call())[Symbol.asyncIterator]();
      await expectRefusal(second.next(), 'RESOURCE_EXHAUSTED');
      await first.return!();
      await watch({ operationId: id }, kit.call())[Symbol.asyncIterator]().next();
    });

    it('Watch leaves places to others, however many one subject wants', async () => {
      const operationId = await kit.begin({ kind: 'test', payload: {} });
      const { watch } = progressMethods({ findOperation, maxWatchers: 4 });
      const begin = (call = kit.call()) => watch({ operationId }, call)[Symbol.asyncIterator]();
      const own = [begin(), begin(), begin()];
      for (const stream of own) await stream.next();
      await expectRefusal(begin().next(), 'RESOURCE_EXHAUSTED', /^You are watching 3 operations/);
      await begin(kit.call({ subject: { id: 'ajeanother', type: 'serviceAccount' } })).next();
      for (const stream of own) await stream.return!();
      await begin().next();
    });

    it('Watch answers NOT_FOUND for an unknown id and UNAUTHENTICATED for nobody, before anything else', async () => {
      const { watch } = progressMethods({ findOperation });
      await expectRefusal(watch({ operationId: 'fd8none' }, kit.call())[Symbol.asyncIterator]().next(), 'NOT_FOUND');
      const operationId = await kit.begin({ kind: 'test', payload: {} });
      const nobody = watch({ operationId }, kit.call({ subject: undefined }))[Symbol.asyncIterator]();
      await expectRefusal(nobody.next(), 'UNAUTHENTICATED');
    });
  });

  describe('listOperations', () => {
    const method = 'test.TestService/ListOperations';

    it('pages through the operations of one resource, newest first, with tokens of at most 100 characters', async () => {
      const ids: string[] = [];
      for (let n = 0; n < 7; n += 1) ids.push(await kit.begin({ kind: 'test', payload: {} }, { resourceId: 'fd8x' }));
      await kit.begin({ kind: 'test', payload: {} }, { resourceId: 'fd8y' });
      // Ties as well: several in one millisecond.
      await kit.sql(`update operations set created_at = date_trunc('second', created_at)`);
      const seen: string[] = [];
      let pageToken = '';
      do {
        const page = await listOperations(kit.call(), method, 'fd8x', { pageSize: 3n, pageToken });
        expect(page.operations.length).to.be.within(1, 3);
        seen.push(...page.operations.map(({ id }) => id));
        pageToken = page.nextPageToken;
        expect(pageToken.length).to.be.at.most(100);
      } while (pageToken !== '');
      const rows = await kit.sql<{ id: string }>(
        `select id from operations where resource_id = 'fd8x' order by created_at desc, id desc`,
      );
      expect(seen).to.deep.equal(rows.map(({ id }) => id));
      expect(new Set(seen)).to.deep.equal(new Set(ids));
    });

    it('shows what a change of bindings gave to whom to who made it, and to who may see the bindings', async () => {
      const binding = { roleId: 'viewer', subject: { id: 'ajesecret', type: 'serviceAccount' } };
      const effectiveDeltas = [{ action: AccessBindingAction.ADD, accessBinding: binding }];
      const response = pack(AccessBindingsOperationResult, { effectiveDeltas });
      const { id } = await kit.operations.begin(kit.call(), () => newOperation({ resourceId: 'fd8x', response }));
      const deltasFor = async (call: Call): Promise<number> => {
        const { operations } = await listOperations(call, method, 'fd8x', { pageSize: 10, pageToken: '' });
        const got = await operationMethods({ operations: kit.operations, findOperation }).get({ operationId: id }, call);
        const counts = [...operations, got].map(({ result }) => {
          if (result?.$case !== 'response') throw new Error('no response');
          expect(result.value.typeUrl).to.equal(response.typeUrl);
          return AccessBindingsOperationResult.decode(result.value.value).effectiveDeltas.length;
        });
        expect(new Set(counts).size).to.equal(1);
        return counts[0]!;
      };
      const auditor = { id: 'ajeauditor', type: 'serviceAccount' };
      const access: AccessRules = { ...everybodyMay, isAllowed: (_, permission) => !permission.endsWith('AccessBindings') };
      expect(await deltasFor(kit.call({ access }))).to.equal(1);
      expect(await deltasFor(kit.call({ subject: auditor }))).to.equal(1);
      expect(await deltasFor(kit.call({ subject: auditor, access }))).to.equal(0);
    });

    it('refuses the token of another resource', async () => {
      for (let n = 0; n < 2; n += 1) await kit.begin({ kind: 'test', payload: {} }, { resourceId: 'fd8x' });
      const { nextPageToken } = await listOperations(kit.call(), method, 'fd8x', { pageSize: 1, pageToken: '' });
      const other = listOperations(kit.call(), method, 'fd8y', { pageSize: 1, pageToken: nextPageToken });
      await expectRefusal(other, 'INVALID_ARGUMENT', /page_token/);
    });
  });

  describe('removeHistory', () => {
    it('removes old operations that are done and old keys, and nothing else', async () => {
      const begin = (key: string) =>
        kit.operations.begin(kit.call({ idempotencyKey: key }), () => newOperation({ response: emptyResponse() }));
      const oldDone = (await begin('old')).id;
      const recent = (await begin('recent')).id;
      const oldRunning = await kit.begin({ kind: 'test', payload: {} });
      const longRunning = (await begin('ended just now')).id;
      await kit.sql(
        `update operations set created_at = now() - interval '31 days', modified_at = now() - interval '1 day' where id <> $1`,
        [recent],
      );
      await kit.sql(`update operations set modified_at = now() - interval '59 minutes' where id = $1`, [longRunning]);
      await kit.sql(`update idempotency_keys set created_at = now() - interval '25 hours' where operation_id = $1`, [oldDone]);
      expect(await removeHistory(kit.fork())).to.deep.equal({ operations: 1, keys: 1 });
      const left = await kit.fork().findAll(Operation);
      expect(new Set(left.map(({ id }) => id))).to.deep.equal(new Set([recent, oldRunning, longRunning]));
      expect(await removeHistory(kit.fork())).to.deep.equal({ operations: 0, keys: 0 });
    });

    it('removes more than one batch', async () => {
      const { id } = await kit.operations.begin(kit.call(), () => newOperation({ response: emptyResponse() }));
      await kit.sql(
        `insert into operations (id, folder_id, resource_id, resource_kind, description, created_at, created_by, modified_at,
           metadata_type, metadata, done, error, response_type, response, cancellable, cancel_requested_at, bytes_done, bytes_total,
           bytes_per_second, phase)
         select o.id || n, folder_id, resource_id, resource_kind, description, created_at - interval '2 seconds', created_by,
         modified_at - interval '2 hours', metadata_type, metadata, done, error, response_type, response, cancellable, cancel_requested_at,
         bytes_done, bytes_total, bytes_per_second, phase from operations o, generate_series(1, 2500) n`,
      );
      expect(await removeHistory(kit.fork(), { keepOperationsMs: 1_500 })).to.include({ operations: 2500 });
      const left = await eventually(() => kit.fork().findAll(Operation));
      expect(left.map((row) => row.id)).to.deep.equal([id]);
    });
  });
});
