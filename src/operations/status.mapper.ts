// Errors as google.rpc.Status: in an operation's `error`, and in the details of a failed call.
import {
  BadRequest,
  ErrorInfo,
  QuotaFailure,
  type QuotaFailure_Violation,
  RequestInfo,
  RetryInfo,
} from '../../generated/google/rpc/error_details.ts';
import { Status } from '../../generated/google/rpc/status.ts';
import type { Code, DomainError, ErrorDetail, QuotaViolation } from '../platform/errors.ts';
import { pack, type PackedMessage } from './pack.ts';

/** google.rpc.Code, the numbers of gRPC's status codes. */
export const codeNumbers: Readonly<Record<Code, number>> = {
  CANCELLED: 1,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
};

/** The domain that the reasons of google.rpc.ErrorInfo belong to. */
const errorDomain = 'obraz';

/** `requestId` adds a google.rpc.RequestInfo, which clients look for in the details of failed calls. */
export function toStatus(error: DomainError, requestId?: string): Status {
  const packed = error.details.map(packDetail);
  if (requestId !== undefined) packed.push(pack(RequestInfo, { requestId, servingData: '' }));
  const details = packed.map(({ typeUrl, value }) => ({ typeUrl, value: Buffer.from(value) }));
  return { code: codeNumbers[error.code], message: error.message, details };
}

/** The status as an operation's row keeps it. */
export const encodeStatus = (error: DomainError): Uint8Array => Status.encode(toStatus(error)).finish();

export const decodeStatus = (bytes: Uint8Array): Status => Status.decode(bytes);

function packDetail(detail: ErrorDetail): PackedMessage {
  switch (detail.kind) {
    case 'badRequest':
      return pack(BadRequest, {
        fieldViolations: detail.violations.map(({ field, description }) => ({
          field,
          description,
          reason: '',
          localizedMessage: undefined,
        })),
      });
    case 'quotaFailure':
      return pack(QuotaFailure, {
        violations: detail.violations.map((violation) => toQuotaViolation(detail.cloudId, violation)),
      });
    case 'errorInfo':
      return pack(ErrorInfo, { reason: detail.reason, domain: errorDomain, metadata: detail.metadata ?? {} });
    case 'retryInfo': {
      const seconds = Math.floor(detail.retryDelayMs / 1000);
      const nanos = Math.round((detail.retryDelayMs - seconds * 1000) * 1e6);
      return pack(RetryInfo, { retryDelay: { seconds: BigInt(seconds), nanos } });
    }
  }
}

const toQuotaViolation = (cloudId: string, { metric, limit, usage, required }: QuotaViolation): QuotaFailure_Violation => ({
  subject: `cloud:${cloudId}`,
  description: `Limit ${metric} exceeded: ${usage} of ${limit} in use, ${required} needed`,
  apiService: '',
  quotaMetric: metric,
  quotaId: metric,
  quotaDimensions: { cloud_id: cloudId },
  quotaValue: BigInt(limit),
  futureQuotaValue: undefined,
});
