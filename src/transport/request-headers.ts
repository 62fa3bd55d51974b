// What a call brings in its metadata. (Names that clients use: facts/clients.md, section 1.4.)
import type { Metadata } from '@grpc/grpc-js';
import { invalidArgument } from '../platform/errors.ts';
import { newRequestId } from './request-id.ts';

const maxAuthorizationBytes = 10_000;
const idempotencyKeyPattern = /^[\x20-\x7e]{1,128}$/;
const idPattern = /^[0-9A-Za-z][0-9A-Za-z_-]{7,63}$/;

export interface RequestIds {
  /** The client's own, when it sent one that looks like an id; else the server's. In answers, errors and logs. */
  requestId: string;
  /** Made here, never twice: clients repeat theirs. */
  serverRequestId: string;
}

export function readRequestIds(metadata: Metadata): RequestIds {
  const serverRequestId = newRequestId();
  const given = first(metadata, 'x-request-id') ?? first(metadata, 'x-client-request-id');
  return { requestId: given !== undefined && idPattern.test(given) ? given : serverRequestId, serverRequestId };
}

/** The token of `authorization: Bearer …`, not looked into. @throws DomainError INVALID_ARGUMENT when the header is too long. */
export function readBearerToken(metadata: Metadata): string | undefined {
  const header = first(metadata, 'authorization');
  if (header === undefined) return undefined;
  if (header.length > maxAuthorizationBytes) {
    throw invalidArgument('authorization', `the header must have at most ${maxAuthorizationBytes} bytes, has ${header.length}`);
  }
  return /^bearer /i.test(header) ? header.slice('bearer '.length).trim() : undefined;
}

/** The token of a call that has been let in or refused, for the audit. */
export const readToken = (metadata: Metadata): string | undefined =>
  /^bearer +(\S+)/i.exec(first(metadata, 'authorization') ?? '')?.[1];

/** @throws DomainError INVALID_ARGUMENT. */
export function readIdempotencyKey(metadata: Metadata): string | undefined {
  const key = first(metadata, 'idempotency-key');
  if (key === undefined || key === '') return undefined;
  if (!idempotencyKeyPattern.test(key)) {
    throw invalidArgument('idempotency-key', `the header must have at most 128 printable characters, has ${key.length}`);
  }
  return key;
}

/** A header for the log: shortened, or undefined. */
export const readText = (metadata: Metadata, name: string): string | undefined => first(metadata, name)?.slice(0, 200);

function first(metadata: Metadata, name: string): string | undefined {
  const value = metadata.get(name)[0];
  return typeof value === 'string' ? value : undefined;
}
