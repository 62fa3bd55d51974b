// The one error class of the domain. It is thrown where a rule is broken and converted once, at the edge
// (transport/status.ts for gRPC, operations for a failed job). Three kinds of failure, three ways:
//   the caller's fault → DomainError with one of the codes below;
//   the world's fault  → TransientError, retried where that is idempotent, else shown as UNAVAILABLE;
//   our own fault      → any other Error: logged, shown as INTERNAL without its text.
// A message says what, which value, which bound, and what to do.

/** The canonical gRPC status codes that the domain may speak, by name (google.rpc.Code). */
export type Code =
  | 'CANCELLED'
  | 'INVALID_ARGUMENT'
  | 'DEADLINE_EXCEEDED'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'PERMISSION_DENIED'
  | 'RESOURCE_EXHAUSTED'
  | 'FAILED_PRECONDITION'
  | 'ABORTED'
  | 'OUT_OF_RANGE'
  | 'UNIMPLEMENTED'
  | 'INTERNAL'
  | 'UNAVAILABLE'
  | 'DATA_LOSS'
  | 'UNAUTHENTICATED';

export interface FieldViolation {
  /** The request field as the client wrote it, snake_case, with dots and indexes: `labels["a"]`, `os.type`. */
  field: string;
  description: string;
}

export interface QuotaViolation {
  metric: string;
  limit: number;
  usage: number;
  /** The limit that the refused call would have needed. */
  required: number;
}

/** What travels in google.rpc.Status.details; transport turns each into its message. */
export type ErrorDetail =
  | { kind: 'badRequest'; violations: FieldViolation[] }
  | { kind: 'quotaFailure'; cloudId: string; violations: QuotaViolation[] }
  | { kind: 'errorInfo'; reason: string; metadata?: Record<string, string> }
  | { kind: 'retryInfo'; retryDelayMs: number };

export class DomainError extends Error {
  override readonly name = 'DomainError';
  readonly code: Code;
  readonly details: readonly ErrorDetail[];

  constructor(code: Code, message: string, details: readonly ErrorDetail[] = [], options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.details = details;
  }
}

/** The world's fault: a later attempt may succeed. `message` is safe to show to the caller. */
export class TransientError extends Error {
  override readonly name = 'TransientError';
}

/** `notFound('Image', 'fd8…')` → NOT_FOUND `Image fd8… not found`. */
export const notFound = (kind: string, id: string): DomainError => new DomainError('NOT_FOUND', `${kind} ${id} not found`);

/** `alreadyExists('Image', 'base', 'folder b1g…')` → ALREADY_EXISTS. */
export const alreadyExists = (kind: string, name: string, place: string): DomainError =>
  new DomainError('ALREADY_EXISTS', `${kind} with name "${name}" already exists in ${place}`);

export const invalidArgument = (field: string, description: string): DomainError =>
  new DomainError('INVALID_ARGUMENT', `${field}: ${description}`, [{ kind: 'badRequest', violations: [{ field, description }] }]);

export const failedPrecondition = (message: string): DomainError => new DomainError('FAILED_PRECONDITION', message);

export const permissionDenied = (message: string): DomainError => new DomainError('PERMISSION_DENIED', message);

export const unauthenticated = (): DomainError => new DomainError('UNAUTHENTICATED', 'Token is invalid or has expired.');

export const rateLimited = (what: string, retryDelayMs: number): DomainError =>
  new DomainError('RESOURCE_EXHAUSTED', `${what}. Try again in ${Math.ceil(retryDelayMs)} ms`, [
    { kind: 'retryInfo', retryDelayMs },
    { kind: 'errorInfo', reason: rateLimitReason },
  ]);

/** What tells such an error from that of a quota. */
export const rateLimitReason = 'RATE_LIMIT_EXCEEDED';

export const quotaExceeded = (cloudId: string, violation: QuotaViolation): DomainError =>
  new DomainError('RESOURCE_EXHAUSTED', `Limit ${violation.metric} exceeded`, [
    { kind: 'quotaFailure', cloudId, violations: [violation] },
  ]);
