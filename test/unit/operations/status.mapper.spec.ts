import { expect } from 'chai';
import { BadRequest, ErrorInfo, QuotaFailure, RequestInfo, RetryInfo } from '../../../generated/google/rpc/error_details.ts';
import { codeNumbers, decodeStatus, encodeStatus, toStatus } from '../../../src/operations/status.mapper.ts';
import { type Code, DomainError, invalidArgument, quotaExceeded } from '../../../src/platform/errors.ts';

describe('Errors as google.rpc.Status', () => {
  it('carry the code, the message, and every kind of detail under its type', () => {
    const error = new DomainError('INVALID_ARGUMENT', 'no', [
      ...invalidArgument('labels["a"]', 'is too long').details,
      ...quotaExceeded('b1gcloud', { metric: 'compute.images.count', limit: 32, usage: 32, required: 33 }).details,
      { kind: 'errorInfo', reason: 'SOURCE_CHANGED', metadata: { etag: '"a"' } },
      { kind: 'retryInfo', retryDelayMs: 2_500 },
    ]);
    const { code, message, details } = toStatus(error, 'request-1');
    expect({ code, message }).to.deep.equal({ code: 3, message: 'no' });
    expect(details.map(({ typeUrl }) => typeUrl)).to.deep.equal(
      ['BadRequest', 'QuotaFailure', 'ErrorInfo', 'RetryInfo', 'RequestInfo'].map(
        (name) => `type.googleapis.com/google.rpc.${name}`,
      ),
    );
    const [badRequest, quota, info, retry, request] = details.map(({ value }) => value);
    expect(BadRequest.decode(badRequest!).fieldViolations[0]).to.include({ field: 'labels["a"]', description: 'is too long' });
    expect(QuotaFailure.decode(quota!).violations[0]).to.include({
      subject: 'cloud:b1gcloud',
      quotaMetric: 'compute.images.count',
      quotaValue: 32n,
    });
    expect(ErrorInfo.decode(info!)).to.deep.include({ reason: 'SOURCE_CHANGED', domain: 'obraz' });
    expect(ErrorInfo.decode(info!).metadata).to.deep.equal({ etag: '"a"' });
    expect(RetryInfo.decode(retry!).retryDelay).to.include({ seconds: 2n, nanos: 500_000_000 });
    expect(RequestInfo.decode(request!).requestId).to.equal('request-1');
  });

  it('are the same after they were kept as bytes', () => {
    const error = invalidArgument('uri', 'must be http or https');
    expect(decodeStatus(encodeStatus(error))).to.deep.equal(toStatus(error));
  });

  it('have the numbers of google.rpc.Code', () => {
    const names: (Code | 'OK' | 'UNKNOWN')[] = [
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
    ];
    for (const [name, number] of Object.entries(codeNumbers)) expect(names[number]).to.equal(name);
    expect(Object.keys(codeNumbers)).to.have.length(names.length - 2);
  });
});
