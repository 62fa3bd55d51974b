// One call from its first byte to its line in the log: what a method sees of it (Call), and how it ends.
import type { ServerWritableStream, ServerUnaryCall } from '@grpc/grpc-js';
import type { EntityManager } from '@mikro-orm/postgresql';
import type { AccessRules } from '../iam/access-control.ts';
import type { Call, Grant, Subject } from '../iam/call.ts';
import type { AuditedCall, TransportAudit } from '../audit/audit.ts';
import { DomainError } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import { maskSecrets } from '../platform/log.ts';
import type { MethodMetrics } from './request-metrics.ts';
import { AnswerHeaders } from './answer-headers.ts';
import { canonicalBytes } from './canonical-bytes.ts';
import { readRequestIds, readText, readToken } from './request-headers.ts';
import { type Failure, codeNames, judge, toFailure } from './status.ts';

/** What grpc-js hands to a handler: bytes, since messages are decoded after authentication. */
export type IncomingCall = ServerUnaryCall<Buffer, Buffer> | ServerWritableStream<Buffer, Buffer>;

export interface CallContext {
  /** Full name without the first slash. */
  method: string;
  secure: boolean;
  log: Log;
  forkEm: () => EntityManager;
  access: AccessRules;
  metrics: MethodMetrics;
  serializeRequest: (request: object) => Uint8Array;
  /** Of methods that change something. */
  audit: ((call: AuditedCall) => TransportAudit) | undefined;
}

const gone = {
  CANCELLED: 'The client cancelled the call.',
  DEADLINE_EXCEEDED: "The call's deadline has passed.",
} as const;

export class GrpcCall implements Call {
  readonly method: string;
  readonly requestId: string;
  readonly secure: boolean;
  readonly access: AccessRules;
  readonly grants: Grant[] = [];
  subject: Subject | undefined;
  idempotencyKey: string | undefined;
  /** Set when it has been decoded and checked. */
  request: object | undefined;
  readonly #incoming: IncomingCall;
  readonly #context: CallContext;
  readonly #serverRequestId: string;
  readonly #headers: AnswerHeaders;
  readonly #startedAt = performance.now();
  #em: EntityManager | undefined;
  #controller: AbortController | undefined;
  #peer: string | undefined;
  #audit: TransportAudit | undefined;
  /** Why the call was over before it was answered. */
  #abortReason: DomainError | undefined;
  #answered = false;

  constructor(incoming: IncomingCall, context: CallContext) {
    this.#incoming = incoming;
    this.#context = context;
    context.metrics.started();
    this.method = context.method;
    this.secure = context.secure;
    this.access = context.access;
    const ids = readRequestIds(incoming.metadata);
    this.requestId = ids.requestId;
    this.#serverRequestId = ids.serverRequestId;
    this.#headers = new AnswerHeaders(ids);
    // grpc-js tells of every end in this way, once, also of a good one.
    incoming.on('cancelled', () => {
      if (this.#answered) return;
      const code = Number(incoming.getDeadline()) <= Date.now() ? 'DEADLINE_EXCEEDED' : 'CANCELLED';
      this.abort(new DomainError(code, gone[code]));
    });
  }

  get em(): EntityManager {
    return (this.#em ??= this.#context.forkEm());
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#abortReason !== undefined) this.#controller.abort(this.#abortReason);
    }
    return this.#controller.signal;
  }

  get requestBytes(): () => Uint8Array {
    return () => canonicalBytes(this.#context.serializeRequest, this.request!);
  }

  /** `192.0.2.1:4242`: as grpc-js writes it, which takes as long as ten other steps of the wrapper. */
  get peer(): string {
    return (this.#peer ??= this.#incoming.getPeer());
  }

  get audit(): TransportAudit | undefined {
    return (this.#audit ??= this.#context.audit?.(this.#audited()));
  }

  #audited(): AuditedCall {
    const { metadata } = this.#incoming;
    return {
      requestId: this.requestId,
      subject: this.subject,
      grants: this.grants,
      peer: this.peer,
      userAgent: readText(metadata, 'user-agent'),
      token: readToken(metadata),
      requestBytes: this.request === undefined ? undefined : () => this.#context.serializeRequest(this.request!),
    };
  }

  get setHeader(): (name: string, value: string) => void {
    return (name, value) => this.#headers.set(name, value);
  }

  get authority(): string {
    // A client may leave it out, whatever the type says.
    const host: string | undefined = this.#incoming.getHost();
    return host ?? '';
  }

  /** The first reason counts. */
  abort(reason: DomainError): void {
    if (this.#abortReason !== undefined) return;
    this.#abortReason = reason;
    this.#controller?.abort(reason);
  }

  /** Sends the headers; before the first message and before an error. Repeats change nothing. */
  sendHeaders(): void {
    this.#incoming.sendMetadata(this.#headers.metadata);
  }

  /** The call has ended well. Nothing is sent here. */
  succeeded(): void {
    this.#end(0);
  }

  /** The call has ended with an error. Answers what is to be sent of it, after the headers. Never throws. */
  failed(thrown: unknown): Failure {
    try {
      return this.#fail(thrown);
    } catch (error) {
      // Its details cannot be encoded: that is a fault of ours.
      return this.#fail(error);
    }
  }

  #fail(thrown: unknown): Failure {
    const { error, isBug } = judge(thrown, this.requestId);
    // What a method throws because its call is over is no news; any other error of it is.
    const shown = this.#abortReason !== undefined && (!isBug || isAbort(thrown, this.#abortReason)) ? this.#abortReason : error;
    const failure = toFailure(shown, this.requestId);
    this.#end(failure.code, shown, shown === error && isBug ? thrown : undefined);
    this.audit?.failed(shown, failure.code);
    return failure;
  }

  #end(sentCode: number, error?: DomainError, bug?: unknown): void {
    // A client that is gone has not seen what was sent.
    const code = error === undefined && this.#abortReason !== undefined ? codeNames.indexOf(this.#abortReason.code) : sentCode;
    this.#answered = true;
    const ms = performance.now() - this.#startedAt;
    this.#context.metrics.ended(code, ms / 1000);
    this.#logEnd(code, ms, error, bug);
  }

  /** The one line that a call leaves in the log. Never the request: it holds tokens and URLs with signatures. */
  #logEnd(code: number, ms: number, error: DomainError | undefined, bug: unknown): void {
    const { log } = this.#context;
    const level = bug === undefined ? 'info' : 'error';
    if (!log.isLevelEnabled(level)) return;
    const { metadata } = this.#incoming;
    log[level](
      {
        method: this.method,
        code: codeNames[code],
        durationMs: Math.round(ms * 1000) / 1000,
        requestId: this.requestId,
        serverRequestId: this.#serverRequestId,
        clientTraceId: readText(metadata, 'x-client-trace-id'),
        subject: this.subject?.id,
        peer: this.peer,
        userAgent: readText(metadata, 'user-agent'),
        // The text of INVALID_ARGUMENT quotes the request.
        ...(error === undefined || error.code === 'INVALID_ARGUMENT' ? {} : { error: maskSecrets(error.message).slice(0, 500) }),
        ...(bug === undefined ? {} : { err: bug }),
      },
      'call',
    );
  }
}

function isAbort(error: unknown, reason: unknown): boolean {
  if (error === reason) return true;
  return error instanceof Error && (error.name === 'AbortError' || error.cause === reason);
}
