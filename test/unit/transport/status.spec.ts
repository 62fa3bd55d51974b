import { inspect } from 'node:util';
import { expect } from 'chai';
import * as fc from 'fast-check';
import { BadRequest, ErrorInfo, QuotaFailure, RequestInfo, RetryInfo } from '../../../generated/google/rpc/error_details.ts';
import { Status } from '../../../generated/google/rpc/status.ts';
import {
  type Code,
  DomainError,
  type ErrorDetail,
  TransientError,
  invalidArgument,
  notFound,
} from '../../../src/platform/errors.ts';
import { codeNames, judge, toFailure } from '../../../src/transport/status.ts';
import { testSeed } from '../../support/sample.ts';

function sent(error: DomainError) {
  const failure = toFailure(error, 'request-1');
  const status = Status.decode(failure.metadata.get('grpc-status-details-bin')[0] as Buffer);
  return { failure, status, types: status.details.map(({ typeUrl }) => typeUrl) };
}

describe('The verdict on an error', () => {
  it('leaves code and text to the caller’s fault', () => {
    const error = notFound('Image', 'fd8');
    expect(judge(error, 'r')).to.deep.equal({ error, isBug: false });
  });

  it('is UNAVAILABLE for the world’s fault', () => {
    const { error, isBug } = judge(new TransientError('the database is away'), 'r');
    expect([error.code, error.message, isBug]).to.deep.equal(['UNAVAILABLE', 'the database is away', false]);
  });

  it('is UNAVAILABLE, and no bug, for a database that is away or busy', () => {
    for (const thrown of [
      new Error('timeout exceeded when trying to connect'),
      Object.assign(new Error('terminating connection'), { code: '57P01' }),
    ]) {
      const { error, isBug } = judge(thrown, 'r');
      const text = 'The database did not answer; try again';
      expect([error.code, error.message, isBug]).to.deep.equal(['UNAVAILABLE', text, false]);
    }
    expect(judge(Object.assign(new Error('relation is missing'), { code: '42P01' }), 'r')).to.deep.include({ isBug: true });
  });

  for (const thrown of [new TypeError('secret'), 'secret', undefined, { code: 5, details: 'secret' }]) {
    it(`is INTERNAL without its text for anything else: ${inspect(thrown).slice(0, 30)}`, () => {
      const { error, isBug } = judge(thrown, 'request-1');
      expect([error.code, error.message, isBug]).to.deep.equal(['INTERNAL', 'Internal error, request id request-1', true]);
    });
  }

  it('takes a domain error that blames ourselves for a bug', () => {
    expect(judge(new DomainError('DATA_LOSS', 'a chunk is corrupt'), 'r')).to.deep.include({ isBug: true });
  });
});

describe('A failure on its way out', () => {
  it('has the numbers of gRPC for all names', () => {
    expect(codeNames).to.deep.equal([
      'OK',
      'CANCELLED',
      'UNKNOWN',
      'INVALID_ARGUMENT',
      'DEADLINE_EXCEEDED',
      'NOT_FOUND',
      'ALREADY_EXISTS',
      'PERMISSION_DENIED',
      'RESOURCE_EXHAUSTED',
      'FAILED_PRECONDITION',
      'ABORTED',
      'OUT_OF_RANGE',
      'UNIMPLEMENTED',
      'INTERNAL',
      'UNAVAILABLE',
      'DATA_LOSS',
      'UNAUTHENTICATED',
    ]);
    expect(sent(notFound('Image', 'x')).failure.code).to.equal(5);
  });

  it('always names the request', () => {
    const { status } = sent(notFound('Image', 'x'));
    expect(status.details.map(({ value }) => RequestInfo.decode(value).requestId)).to.deep.equal(['request-1']);
    expect(status).to.include({ code: 5, message: 'Image x not found' });
  });

  it('carries each detail as its message', () => {
    const { status, types } = sent(
      new DomainError('RESOURCE_EXHAUSTED', 'too much', [
        { kind: 'badRequest', violations: [{ field: 'name', description: 'is bad' }] },
        {
          kind: 'quotaFailure',
          cloudId: 'b1g',
          violations: [{ metric: 'compute.images.count', limit: 1, usage: 1, required: 2 }],
        },
        { kind: 'errorInfo', reason: 'WHY', metadata: { a: 'b' } },
        { kind: 'retryInfo', retryDelayMs: 1500 },
      ]),
    );
    expect(types).to.deep.equal(
      ['BadRequest', 'QuotaFailure', 'ErrorInfo', 'RetryInfo', 'RequestInfo'].map(
        (name) => `type.googleapis.com/google.rpc.${name}`,
      ),
    );
    const [bad, quota, info, retry] = status.details.map(({ value }) => value) as [Buffer, Buffer, Buffer, Buffer];
    expect(BadRequest.decode(bad).fieldViolations[0]).to.include({ field: 'name', description: 'is bad' });
    expect(QuotaFailure.decode(quota).violations[0]).to.include({ quotaMetric: 'compute.images.count', quotaValue: 1n });
    expect(ErrorInfo.decode(info)).to.deep.equal({ reason: 'WHY', domain: 'obraz', metadata: { a: 'b' } });
    expect(RetryInfo.decode(retry).retryDelay).to.deep.equal({ seconds: 1n, nanos: 500_000_000 });
  });

  it('loses violations before it grows too large for clients, never the status', () => {
    const violations = Array.from({ length: 50 }, (_, index) => ({ field: `field_${index}`, description: 'x'.repeat(300) }));
    const { status, types, failure } = sent(new DomainError('INVALID_ARGUMENT', 'many', [{ kind: 'badRequest', violations }]));
    const kept = BadRequest.decode(status.details[0]!.value).fieldViolations;
    expect(kept.length).to.be.within(5, 20);
    expect(kept[0]).to.include(violations[0]!);
    expect(types.at(-1)).to.equal('type.googleapis.com/google.rpc.RequestInfo');
    expect(failure.code).to.equal(3);
  });

  it(`fits into the trailers of every client, and can be sent, whatever it says (OBRAZ_TEST_SEED=${testSeed})`, () => {
    // Strings with halves of pairs too: grpc-js throws on its way out for them.
    const text = fc
      .oneof(fc.string({ unit: 'binary' }), fc.string({ unit: 'grapheme', maxLength: 9000 }))
      .chain((part) => fc.constantFrom(part, `${part}\ud800`, part.repeat(5), `${part}\n%\0`));
    const violations = fc.array(fc.record({ field: text, description: text }), { maxLength: 60 });
    const detail: fc.Arbitrary<ErrorDetail> = fc.oneof(
      violations.map((each) => ({ kind: 'badRequest' as const, violations: each })),
      fc.record({ kind: fc.constant('errorInfo' as const), reason: text }),
      fc.record({ kind: fc.constant('retryInfo' as const), retryDelayMs: fc.nat() }),
    );
    fc.assert(
      fc.property(
        fc.constantFrom<Code>('NOT_FOUND', 'INVALID_ARGUMENT'),
        text,
        fc.array(detail, { maxLength: 4 }),
        (code, message, details) => {
          const { failure } = sent(new DomainError(code, message, details));
          const bytes = failure.metadata.get('grpc-status-details-bin')[0] as Buffer;
          expect(encodeURI(failure.details).length + bytes.toString('base64').length).to.be.lessThan(7_500);
        },
      ),
      { seed: testSeed, numRuns: 200 },
    );
  });

  it('keeps a short text as it is', () => {
    expect(sent(invalidArgument('name', 'must be given')).failure.details).to.equal('name: must be given');
  });
});
