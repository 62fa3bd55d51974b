// Errors on their way out: whose fault one is, and what a client gets of it. Status and message travel in trailers, details beside them
// in `grpc-status-details-bin` (google.rpc.Status). Clients bound the size of trailers, some at 8 KiB, and lose the status when they
// are larger: so message and details are cut to fit.
import { Metadata } from '@grpc/grpc-js';
import { Status } from '../../generated/google/rpc/status.ts';
import { isTransientDatabaseError } from '../db/database-error.ts';
import { codeNumbers, toStatus } from '../operations/status.mapper.ts';
import { type Code, DomainError, type ErrorDetail, TransientError } from '../platform/errors.ts';

/** Names of gRPC's status codes by number. */
export const codeNames: readonly string[] = (() => {
  const names = ['OK', 'CANCELLED', 'UNKNOWN'];
  for (const [name, number] of Object.entries(codeNumbers)) names[number] = name;
  return names;
})();

/** What grpc-js takes for a failed call. */
export interface Failure {
  code: number;
  details: string;
  metadata: Metadata;
}

/** Any error in the terms of the domain. */
export interface Verdict {
  error: DomainError;
  /** Our own fault: to be logged with its stack. */
  isBug: boolean;
}

const ourFault: ReadonlySet<Code> = new Set(['INTERNAL', 'DATA_LOSS']);

/** The caller's fault keeps its code and text, the world's is UNAVAILABLE, any other is INTERNAL without its text. */
export function judge(error: unknown, requestId: string): Verdict {
  if (error instanceof DomainError) return { error, isBug: ourFault.has(error.code) };
  if (error instanceof TransientError) return { error: new DomainError('UNAVAILABLE', error.message), isBug: false };
  // Reads do not go through what makes a TransientError of it.
  if (isTransientDatabaseError(error))
    return { error: new DomainError('UNAVAILABLE', 'The database did not answer; try again'), isBug: false };
  return { error: new DomainError('INTERNAL', `Internal error, request id ${requestId}`), isBug: true };
}

/** Percent-encoded, as it travels. */
const maxMessageBytes = 2_000;
/** Before base64, which adds a third. */
const maxDetailsBytes = 3_500;

export function toFailure(error: DomainError, requestId: string): Failure {
  const message = fitting(error.message);
  const metadata = new Metadata();
  metadata.set('grpc-status-details-bin', Buffer.from(encodeDetails(error, message, requestId)));
  const retry = error.details.find((detail) => detail.kind === 'retryInfo');
  // For clients that look into no details: in the words of gRPC (proposal A6) and of HTTP.
  if (retry !== undefined) {
    metadata.set('grpc-retry-pushback-ms', String(Math.ceil(retry.retryDelayMs)));
    metadata.set('retry-after', String(Math.ceil(retry.retryDelayMs / 1000)));
  }
  return { code: codeNumbers[error.code], details: message, metadata };
}

/** Well-formed, since grpc-js throws on its way out for what is not, and short. */
function fitting(text: string): string {
  let fit = text.slice(0, maxMessageBytes).toWellFormed();
  while (encodeURI(fit).length > maxMessageBytes) fit = `${fit.slice(0, Math.floor(fit.length * 0.8)).toWellFormed()}…`;
  return fit;
}

function encodeDetails({ code, details }: DomainError, message: string, requestId: string): Uint8Array {
  for (let kept = details; ; kept = fewer(kept)) {
    const bytes = Status.encode(toStatus(new DomainError(code, message, kept), requestId)).finish();
    if (bytes.length <= maxDetailsBytes || kept.length === 0) return bytes;
  }
}

/** Half of the violations of the first detail that has several; else one detail less. */
function fewer(details: readonly ErrorDetail[]): readonly ErrorDetail[] {
  const large = details.findIndex((detail) => 'violations' in detail && detail.violations.length > 1);
  if (large === -1) return details.slice(0, -1);
  return details.map((detail, index) => (index === large && 'violations' in detail ? halved(detail) : detail));
}

function halved<Detail extends { violations: unknown[] }>(detail: Detail): Detail {
  return { ...detail, violations: detail.violations.slice(0, Math.floor(detail.violations.length / 2)) };
}
