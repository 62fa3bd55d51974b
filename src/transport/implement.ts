// The one wrapper around every method: ids and answer headers → authenticate → decode → validate by the proto's own options → the
// method → an error to a status with details. A method is what is left: authorize, parse, one transaction, message.
//
// Messages are decoded and encoded here and not by grpc-js, which would turn a fault in them into INTERNAL without a word in the log,
// and would decode what nobody has authenticated.
import type {
  Metadata,
  MethodDefinition,
  ServerUnaryCall,
  ServerWritableStream,
  ServiceDefinition,
  UntypedHandleCall,
  sendUnaryData,
} from '@grpc/grpc-js';
import type { EntityManager } from '@mikro-orm/postgresql';
import type { AccessRules } from '../iam/access-control.ts';
import type { Audit } from '../audit/audit.ts';
import type { Call, Method, StreamMethod, Subject } from '../iam/call.ts';
import { DomainError, unauthenticated } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import { strictReader } from './decode.ts';
import { GrpcCall } from './grpc-call.ts';
import { keepAuthenticated } from './keep-authenticated.ts';
import type { RateLimits } from './rate-limits.ts';
import { readBearerToken, readIdempotencyKey } from './request-headers.ts';
import type { RequestMetrics } from './request-metrics.ts';
import { sendStream } from './send-stream.ts';
import type { Listener, Service } from './service.ts';
import { type Validator, invalidRequest } from './validation.ts';

/** What is known of a call before it is known who calls. */
export type AuthenticatedCall = Pick<Call, 'method' | 'requestId' | 'secure'> & { readonly peer: string };

/** What the wrapper is made of, the same for all services. */
export interface ServiceParts {
  /**
   * Who calls. `token` is what followed `Bearer`, not looked into; undefined when there was none.
   * @throws DomainError UNAUTHENTICATED.
   */
  authenticate: (token: string | undefined, call: AuthenticatedCall) => Promise<Subject> | Subject;
  forkEm: () => EntityManager;
  access: AccessRules;
  validator: Validator;
  log: Log;
  metrics: RequestMetrics;
  /** Methods that need no token, by full name: `yandex.cloud.endpoint.ApiEndpointService/List`. Their `subject` is undefined. */
  openMethods: ReadonlySet<string>;
  /** Without it no events are left. */
  audit?: Audit;
  /** Without them anybody may call as often as they like. */
  limits?: RateLimits;
  /** Open methods whose request proves who calls: one that proves nothing is a failed authentication. */
  provingMethods?: ReadonlySet<string>;
  /** Methods whose stream tells of work that may outlast a token: it goes on until it is done, or the caller's account ends. */
  longWork?: ReadonlySet<string>;
  /** How often the callers of streams are authenticated again. Default 2 s. */
  recheckMs?: number;
}

/** The methods of a service, by the names of its generated definition. What is missing answers UNIMPLEMENTED. */
export type MethodsOf<Definition> = { readonly [Name in keyof Definition]?: MethodOf<Definition[Name]> | undefined };

type MethodOf<Declared> = Declared extends {
  requestDeserialize: (bytes: Buffer) => infer Request;
  responseDeserialize: (bytes: Buffer) => infer Response;
  responseStream: infer Streams;
}
  ? Streams extends true
    ? StreamMethod<Request, Response>
    : Method<Request, Response>
  : never;

type Rpc = MethodDefinition<object, unknown>;
type AnyMethod = (request: object, call: Call) => Promise<unknown> | AsyncIterable<unknown>;

/**
 * `implement(ImageServiceService, { get: getImage(parts), … }, serviceParts)`.
 * @throws Error for a method that the definition or the descriptors lack, and for streams of requests.
 */
export function implement<Definition extends ServiceDefinition>(
  definition: Definition,
  methods: MethodsOf<NoInfer<Definition>>,
  parts: ServiceParts,
): Service {
  const rpcs = Object.entries(definition as Record<string, Rpc>);
  const unknown = Object.keys(methods).filter((name) => !Object.hasOwn(definition, name));
  if (unknown.length > 0) throw new Error(`the service has no methods ${unknown.join(', ')}`);
  const served = rpcs.map(([name, rpc]) => {
    if (rpc.requestStream) throw new Error(`${rpc.path}: streams of requests are not served`);
    return { name, rpc, handler: methodHandler(rpc, (methods as Record<string, AnyMethod | undefined>)[name], parts) };
  });
  return {
    name: rpcs[0]![1].path.split('/')[1]!,
    definition: Object.fromEntries(served.map(({ name, rpc }) => [name, { ...rpc, ...bytesBothWays }])),
    handlers: (listener) => Object.fromEntries(served.map(({ name, handler }) => [name, handler(listener)])),
  };
}

const asTheyAre = (bytes: Buffer): Buffer => bytes;
const bytesBothWays = { requestDeserialize: asTheyAre, responseSerialize: asTheyAre };

function methodHandler(rpc: Rpc, method: AnyMethod | undefined, parts: ServiceParts): (listener: Listener) => UntypedHandleCall {
  const name = rpc.path.slice(1);
  const isOpen = parts.openMethods.has(name);
  const validate = parts.validator.forMethod(rpc.path);
  const metrics = parts.metrics.forMethod(name);
  const audit = method === undefined ? undefined : parts.audit?.forMethod(name);

  /** First: who calls. Nothing of the request is looked at before. */
  const admit = (call: GrpcCall, metadata: Metadata): Promise<Subject> | Subject | undefined => {
    parts.limits?.admit(call.peer);
    if (method === undefined) throw new DomainError('UNIMPLEMENTED', `${name} is not implemented`);
    const token = readBearerToken(metadata);
    call.idempotencyKey = readIdempotencyKey(metadata);
    return isOpen ? undefined : parts.authenticate(token, call);
  };

  /** Who calls is known now, but in open methods. */
  const admitKnown = ({ subject, peer }: GrpcCall): void => {
    if (subject !== undefined) parts.limits?.admitSubject(subject.id);
    if (audit !== undefined) parts.limits?.admitChange(subject?.id, peer);
  };

  /** Then: what is asked. */
  const parse = (call: GrpcCall, bytes: Buffer): object => {
    const request = decode(rpc, bytes);
    const violations = validate(request);
    if (violations.length > 0) throw invalidRequest(violations);
    call.request = request;
    return request;
  };

  const proves = parts.provingMethods?.has(name) ?? false;
  const run = (request: object, call: GrpcCall): Promise<unknown> => {
    const work = () => method!(request, call) as Promise<unknown>;
    return proves && parts.limits !== undefined ? parts.limits.attempt(call.peer, work) : work();
  };

  async function serveUnary(
    { running }: Listener,
    call: GrpcCall,
    incoming: ServerUnaryCall<Buffer, Buffer>,
    send: sendUnaryData<Buffer>,
  ): Promise<void> {
    running.began();
    try {
      const subject = admit(call, incoming.metadata);
      call.subject = subject instanceof Promise ? await subject : subject;
      admitKnown(call);
      const message = rpc.responseSerialize(await run(parse(call, incoming.request), call));
      if (audit !== undefined) await call.audit!.succeeded(message);
      call.sendHeaders();
      call.succeeded();
      send(null, message);
    } catch (error) {
      call.sendHeaders();
      send(call.failed(error));
    }
    running.ended();
  }

  async function serveStream(
    { running }: Listener,
    call: GrpcCall,
    incoming: ServerWritableStream<Buffer, Buffer>,
  ): Promise<void> {
    running.began();
    const outlastsToken = parts.longWork?.has(name) ?? false;
    const stillKnown = outlastsToken
      ? () => assertActive(call, parts.access)
      : async () => parts.authenticate(readBearerToken(incoming.metadata), call);
    using _kept = isOpen ? undefined : keepAuthenticated(call, stillKnown, parts.recheckMs);
    await sendStream(call, incoming, running.stopping, messages(call, incoming));
    running.ended();
  }

  async function* messages(call: GrpcCall, incoming: ServerWritableStream<Buffer, Buffer>): AsyncGenerator<Buffer> {
    call.subject = await admit(call, incoming.metadata);
    admitKnown(call);
    const answers = method!(parse(call, incoming.request), call) as AsyncIterable<unknown>;
    let begun = audit === undefined;
    for await (const message of answers) {
      if (!begun) await call.audit!.started();
      begun = true;
      yield rpc.responseSerialize(message);
    }
    await call.audit?.succeeded(undefined);
  }

  return (listener) => {
    const { secure } = listener;
    const context = {
      method: name,
      secure,
      log: parts.log,
      forkEm: parts.forkEm,
      access: parts.access,
      metrics,
      serializeRequest: rpc.requestSerialize,
      audit,
    };
    return rpc.responseStream
      ? (incoming: ServerWritableStream<Buffer, Buffer>) => void serveStream(listener, new GrpcCall(incoming, context), incoming)
      : (incoming: ServerUnaryCall<Buffer, Buffer>, send: sendUnaryData<Buffer>) =>
          void serveUnary(listener, new GrpcCall(incoming, context), incoming, send);
  };
}

/** @throws DomainError UNAUTHENTICATED. */
async function assertActive({ subject }: GrpcCall, access: AccessRules): Promise<void> {
  if (subject !== undefined && !(await access.isActive(subject))) throw unauthenticated();
}

/** @throws DomainError INVALID_ARGUMENT for bytes that are no such message. */
function decode(rpc: Rpc, bytes: Buffer): object {
  try {
    return rpc.requestDeserialize(strictReader(bytes));
  } catch (error) {
    throw new DomainError('INVALID_ARGUMENT', `The request is not a message of the type that ${rpc.path.slice(1)} takes.`, [], {
      cause: error,
    });
  }
}
