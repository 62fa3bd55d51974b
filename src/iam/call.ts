import type { EntityManager } from '@mikro-orm/postgresql';
import type { AccessRules } from './access-control.ts';
import type { Permission } from './permissions.ts';
import type { Resource } from './resource.ts';
import type { CallAudit } from '../audit/call-audit.ts';

/** Who calls: echoed as Operation.created_by, matched with access bindings. Source: access.proto Subject. */
export interface Subject {
  id: string;
  /** `userAccount`, `serviceAccount`, `federatedUser` or `system`. */
  type: string;
  /** System groups that it belongs to, `group:organization:<id>:users`; of users alone. */
  groups?: readonly string[];
}

/** What a call was allowed: a job that goes on with its work asks for all of it again. */
export interface Grant {
  permission: Permission;
  resource: Resource;
}

/** One call, as every method sees it. Made by transport/implement.ts. */
export interface Call {
  /** Full method name, `yandex.cloud.compute.v1.ImageService/Create`. */
  readonly method: string;
  readonly requestId: string;
  /** `undefined` only in methods that are declared open to everybody. */
  readonly subject: Subject | undefined;
  readonly access: AccessRules;
  /** What it was allowed so far; authorize() adds to it. */
  readonly grants: Grant[];
  /** A fork of its own, made when first asked for: one identity map for this call. */
  readonly em: EntityManager;
  /** Aborts when the client goes away or its deadline passes, and when the server stops before a stream or a slow call has ended. */
  readonly signal: AbortSignal;
  /** The client's `idempotency-key` header, validated. */
  readonly idempotencyKey: string | undefined;
  /** The request in canonical bytes, for the idempotency hash: the same for equal requests, whatever order a client wrote map entries in. */
  readonly requestBytes: () => Uint8Array;
  /** `:authority` of the request, host:port as the caller reached us. */
  readonly authority: string;
  /** What a method that changes something leaves for the audit; undefined in those that read. */
  readonly audit?: CallAudit | undefined;
  /** True on the TLS port. */
  readonly secure: boolean;
  /** Sends a response header; before the answer only. */
  readonly setHeader: (name: string, value: string) => void;
}

/** A method of a service: authorize → parse → one transaction → message. */
export type Method<Request, Response> = (request: Request, call: Call) => Promise<Response>;

/**
 * A method that streams its answers: it authorizes before the first, and ends soon after `call.signal` aborts. The client gets the
 * first answer at once, and the next ones as fast as it reads.
 */
export type StreamMethod<Request, Response> = (request: Request, call: Call) => AsyncIterable<Response>;
