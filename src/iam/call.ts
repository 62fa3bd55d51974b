import type { EntityManager } from '@mikro-orm/postgresql';

/** Who calls: echoed as Operation.created_by, matched with access bindings. Source: access.proto Subject. */
export interface Subject {
  id: string;
  /** `userAccount`, `serviceAccount`, `federatedUser` or `system`. */
  type: string;
}

/** One call, as every method sees it. Made by transport/implement.ts. */
export interface Call {
  /** Full method name, `yandex.cloud.compute.v1.ImageService/Create`. */
  readonly method: string;
  readonly requestId: string;
  /** `undefined` only in methods that are declared open to everybody. */
  readonly subject: Subject | undefined;
  /** A fresh fork: one identity map for this call. */
  readonly em: EntityManager;
  /** Aborts when the client goes away or its deadline passes. */
  readonly signal: AbortSignal;
  /** The client's `idempotency-key` header, validated. */
  readonly idempotencyKey: string | undefined;
  /** The serialized request, for the idempotency hash. */
  readonly requestBytes: () => Uint8Array;
  /** `:authority` of the request, host:port as the caller reached us. */
  readonly authority: string;
  /** True on the TLS port. */
  readonly secure: boolean;
  /** Sends a response header; before the answer only. */
  readonly setHeader: (name: string, value: string) => void;
}

/** A method of a service: authorize → parse → one transaction → message. */
export type Method<Request, Response> = (request: Request, call: Call) => Promise<Response>;
