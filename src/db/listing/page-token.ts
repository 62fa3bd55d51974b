// A page token says after which row the next page starts: `<check>.<key>` or `<check>.<key>.<sort value>`, at most 100 characters. The
// check is a hash over the query and the position, so that a token of another query, or a changed one, is refused. It is no secret: a
// forged token reads a page of the forger's own query, from another place.
import { createHash } from 'node:crypto';
import { invalidArgument } from '../../platform/errors.ts';

/** Where a page starts: after the row with this key, and this value of the sort field when another field than the key sorts. */
export interface Position {
  key: string;
  sort?: string;
}

const maxTokenLength = 100;

// 64 bits in base64url. With a key of 20 characters, a sort value of 63 and two dots a token has 96.
const checkLength = 11;

/** `query` is everything that must be the same on the next page, as text. */
export function encodePageToken(query: string, position: Position): string {
  const body = position.sort === undefined ? position.key : `${position.key}.${position.sort}`;
  const token = `${check(query, body)}.${body}`;
  if (position.key.includes('.') || token.length > maxTokenLength) {
    throw new Error(`a page token cannot hold the position "${body}"`);
  }
  return token;
}

/** @throws DomainError INVALID_ARGUMENT on `page_token` for a token that is malformed or belongs to another query. */
export function decodePageToken(query: string, token: string, hasSort: boolean): Position {
  const body = token.slice(checkLength + 1);
  const isIntact = token.length <= maxTokenLength && token.slice(0, checkLength + 1) === `${check(query, body)}.`;
  if (!isIntact) throw foreignPageToken();
  if (!hasSort) return { key: body };
  const dot = body.indexOf('.');
  if (dot < 0) throw foreignPageToken();
  return { key: body.slice(0, dot), sort: body.slice(dot + 1) };
}

export const foreignPageToken = () =>
  invalidArgument('page_token', 'is not a token of this query; repeat the query that gave it, or start without a token');

const check = (query: string, body: string): string =>
  createHash('sha256')
    .update(JSON.stringify([query, body]))
    .digest('base64url')
    .slice(0, checkLength);
