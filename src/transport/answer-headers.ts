import { type OutgoingHttpHeaders, sensitiveHeaders } from 'node:http2';
import { Metadata } from '@grpc/grpc-js';
import type { RequestIds } from './request-headers.ts';

const neverRepeated = ['x-request-id', 'x-server-request-id', 'x-server-trace-id'];

/**
 * The headers of every answer. (nodejs-sdk shows ids of failed calls only when they come as headers, before the error.)
 *
 * Sent as ordinary Metadata they would cost more than the rest of the wrapper: so they are ready for HTTP/2 from the start, and their
 * values are kept out of the table of repeated headers, where each would push out another.
 */
export class AnswerHeaders {
  readonly #headers: OutgoingHttpHeaders & { [sensitiveHeaders]: string[] };

  constructor({ requestId, serverRequestId }: RequestIds) {
    this.#headers = {
      'x-request-id': requestId,
      'x-server-request-id': serverRequestId,
      'x-server-trace-id': serverRequestId,
      [sensitiveHeaders]: neverRepeated,
    };
  }

  /** Adds a header beside them. @throws Error for what cannot be one. */
  set(name: string, value: string): void {
    const checked = new Metadata();
    checked.set(name, value);
    Object.assign(this.#headers, checked.toHttp2Headers());
  }

  /** Only to be sent: it has nothing else of Metadata. */
  get metadata(): Metadata {
    return this as Pick<Metadata, 'toHttp2Headers'> as Metadata;
  }

  toHttp2Headers(): OutgoingHttpHeaders {
    return this.#headers;
  }
}
