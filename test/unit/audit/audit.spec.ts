// Events of every method, of whatever its requests may hold, on a real database.
import { create, toBinary } from '@bufbuild/protobuf';
import type { EntityManager } from '@mikro-orm/postgresql';
import { expect } from 'chai';
import { assert, asyncProperty, string } from 'fast-check';
import { Audit, readPeer } from '../../../src/audit/audit.ts';
import type { AuditEventJson } from '../../../src/audit/event.ts';
import { eventsAfter } from '../../../src/audit/event-queries.ts';
import { auditedMethods } from '../../../src/audit/event-types.ts';
import { Places } from '../../../src/audit/places.ts';
import { Refusals } from '../../../src/audit/refusals.ts';
import { query } from '../../../src/db/bound-query.ts';
import { entities } from '../../../src/entities.ts';
import { DomainError } from '../../../src/platform/errors.ts';
import { loadDescriptors } from '../../../src/transport/descriptors.ts';
import { methodJson } from '../../../src/transport/message-json.ts';
import { messageArbitrary } from '../../support/message-arbitrary.ts';
import { MemoryLog } from '../../support/operations-kit.ts';
import { testSeed } from '../../support/sample.ts';
import { testOrm, type TestOrm } from '../../support/test-orm.ts';

const descriptors = loadDescriptors();
const places = new Places();

describe(`Audit of calls (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(60_000);
  let database: TestOrm;
  let refusals: Refusals;
  let audit: Audit;
  const log = new MemoryLog();
  const fork = (): EntityManager => database.orm.em.fork();
  const unbounded = { burst: 1e6, perSecond: 1e6, strangersBurst: 1e6, strangersPerSecond: 1e6 };

  before(async () => {
    database = await testOrm(entities);
    refusals = new Refusals({ fork, places, log, onWritten: () => {}, onLeftOut: () => {}, bounds: unbounded });
    audit = new Audit({
      fork,
      refusals,
      places,
      methodJson: methodJson(descriptors),
      tokenIdOf: () => 'token-id',
      onWritten: () => {},
    });
  });
  after(async () => {
    await refusals[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });
  beforeEach(() => query(fork(), 'truncate audit_events'));

  const written = async (): Promise<AuditEventJson[]> => {
    await refusals.written();
    return (await eventsAfter(fork(), 0, 1_000)).map(({ event }) => event);
  };

  const callOf = (bytes: Uint8Array, more: object = {}) => ({
    requestId: 'a-request-id',
    subject: { id: 'ajesomebody', type: 'serviceAccount' },
    grants: [],
    peer: '127.0.0.1:4242',
    userAgent: undefined,
    token: 't1.eyJqdGkiOiJ.signature',
    requestBytes: () => bytes,
    ...more,
  });

  const inputOf = (method: string) => {
    const [service, name] = method.split('/') as [string, string];
    return descriptors.registry.getService(service)!.methods.find((each) => each.name === name)!.input;
  };

  it('writes one of every method, whatever is in its request', async () => {
    for (const method of auditedMethods()) {
      const desc = inputOf(method);
      await assert(
        asyncProperty(messageArbitrary(desc), string({ unit: 'binary' }), async (message, userAgent) => {
          const call = callOf(toBinary(desc, message), { userAgent });
          await audit.forMethod(method)!(call).record(fork(), { status: 'DONE' });
          audit.forMethod(method)!(call).failed(new DomainError('FAILED_PRECONDITION', userAgent), 9);
          await refusals.written();
          expect(log.lines).to.deep.equal([]);
        }),
        { numRuns: 3, seed: testSeed },
      );
    }
    const events = await written();
    expect(events).to.have.length(auditedMethods().length * 6);
    expect(new Set(events.map(({ eventType }) => eventType)).size).to.equal(auditedMethods().length);
  });

  it('never holds a secret that a request holds', async () => {
    const secret = 'eyJhbGciOiJQUzI1NiJ9.c2VjcmV0LXNlY3JldA.c2lnbmF0dXJl';
    const withSecret = (method: string, fields: Record<string, unknown>) => {
      const desc = inputOf(method);
      return [method, toBinary(desc, create(desc, fields))] as const;
    };
    const calls = [
      withSecret('yandex.cloud.iam.v1.IamTokenService/Create', { identity: { case: 'jwt', value: secret } }),
      withSecret('yandex.cloud.iam.v1.IamTokenService/Create', { identity: { case: 'yandexPassportOauthToken', value: secret } }),
      withSecret('yandex.cloud.iam.v1.IamTokenService/Revoke', { iamToken: secret }),
      withSecret('yandex.cloud.compute.v1.ImageService/Create', {
        source: { case: 'uri', value: `http://u:${secret}@h/i?${secret}` },
      }),
      withSecret('yandex.cloud.compute.v1.ImageService/Create', {
        description: `my token is ${secret}`,
        labels: { [secret]: secret },
      }),
    ];
    for (const [method, bytes] of calls) {
      await audit.forMethod(method)!(callOf(bytes)).record(fork(), { status: 'DONE' });
      audit.forMethod(method)!(callOf(bytes)).failed(new DomainError('INVALID_ARGUMENT', `${secret} is wrong`), 3);
    }
    const events = await written();
    expect(events).to.have.length(10);
    for (const part of secret.split('.').slice(1)) expect(JSON.stringify(events)).to.not.include(part);
  });

  it('looks at nothing of a large request that is refused; of a change all is looked at, once', async function () {
    this.timeout(20_000);
    const method = 'yandex.cloud.compute.v1.DiskService/Create';
    const desc = inputOf(method);
    // Such patterns of masking as start anew at every piece took seconds a call.
    const snapshotScheduleIds = Array.from({ length: 32 }, () => 'eyJ-'.repeat(2_500));
    const bytes = toBinary(desc, create(desc, { folderId: 'b1gfolder', name: 'a-disk', snapshotScheduleIds }));
    for (let time = 0; time < 50; time += 1)
      audit.forMethod(method)!(callOf(bytes)).failed(new DomainError('PERMISSION_DENIED', 'no'), 7);
    const events = await written();
    expect(events).to.have.length(50);
    expect(events[0]).to.deep.include({ requestParameters: { truncated: true }, details: { truncated: true } });
    await query(fork(), 'truncate audit_events');
    await audit.forMethod(method)!(callOf(bytes)).record(fork(), { status: 'DONE' });
    const [change] = await written();
    expect(change!.details).to.include({ diskName: 'a-disk' });
    expect(change!.requestParameters['snapshotScheduleIds']).to.have.length(32);
  });

  it('is kept out by no text, wherever it is cut', async () => {
    const method = 'yandex.cloud.compute.v1.DiskService/Delete';
    const desc = inputOf(method);
    const disks = '\u{1f4be}'.repeat(6_000);
    for (const text of [disks, `x${disks}`]) {
      const bytes = toBinary(desc, create(desc, { diskId: text }));
      const error = new DomainError('NOT_FOUND', `Disk ${text} not found`);
      audit.forMethod(method)!(callOf(bytes, { userAgent: text })).failed(error, 5);
      const violations = [{ field: text, description: 'is bad' }];
      const invalid = new DomainError('INVALID_ARGUMENT', text, [{ kind: 'badRequest', violations }]);
      audit.forMethod(method)!(callOf(bytes)).failed(invalid, 3);
      await audit.forMethod(method)!(callOf(bytes)).record(fork(), { status: 'DONE' });
    }
    expect(await written()).to.have.length(6);
    expect(log.lines).to.deep.equal([]);
  });

  it('bears a request that has no form in JSON', async () => {
    const method = 'obraz.v1.AttachService/CreateTicket';
    const desc = inputOf(method);
    const bytes = toBinary(desc, create(desc, { resourceId: 'epd', lifetime: { seconds: 10n ** 15n, nanos: 0 } }));
    await audit.forMethod(method)!(callOf(bytes)).succeeded(new Uint8Array([0xff]));
    const [event] = await written();
    expect(event).to.deep.include({ requestParameters: { unreadable: true }, response: { unreadable: true } });
  });

  it('tells what was allowed from what was not, and from what may be hidden', async () => {
    const method = 'yandex.cloud.compute.v1.DiskService/Delete';
    const authorizedWhen = async (code: 'NOT_FOUND' | 'PERMISSION_DENIED' | 'FAILED_PRECONDITION', grants: object[]) => {
      audit.forMethod(method)!(callOf(new Uint8Array(), { grants })).failed(new DomainError(code, 'no'), 0);
      return (await written()).at(-1)!.authorization.authorized;
    };
    expect(await authorizedWhen('PERMISSION_DENIED', [])).to.equal(false);
    expect(await authorizedWhen('NOT_FOUND', [])).to.equal(false);
    expect(await authorizedWhen('NOT_FOUND', [{}])).to.equal(true);
    expect(await authorizedWhen('FAILED_PRECONDITION', [{}])).to.equal(true);
  });

  it('leaves none of what is not there, nor of calls over a rate limit', async () => {
    const call = audit.forMethod('yandex.cloud.compute.v1.DiskService/Delete')!(callOf(new Uint8Array()));
    call.failed(new DomainError('UNIMPLEMENTED', 'not here'), 12);
    call.failed(new DomainError('RESOURCE_EXHAUSTED', 'slower', [{ kind: 'errorInfo', reason: 'RATE_LIMIT_EXCEEDED' }]), 8);
    expect(await written()).to.deep.equal([]);
    expect(audit.forMethod('yandex.cloud.compute.v1.DiskService/Get')).to.equal(undefined);
  });

  it('reads addresses as grpc-js writes them', () => {
    expect(readPeer('192.0.2.1:4242')).to.deep.equal({ address: '192.0.2.1', port: '4242' });
    expect(readPeer('::ffff:192.0.2.1:4242')).to.deep.equal({ address: '192.0.2.1', port: '4242' });
    expect(readPeer('2001:db8::1:4242')).to.deep.equal({ address: '2001:db8::1', port: '4242' });
    expect(readPeer('unknown')).to.deep.equal({ address: 'unknown', port: undefined });
  });
});
