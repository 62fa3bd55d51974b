// What ties later requests to the version of a source that was found first (RFC 9110 sections 8.8 and 13.1).
import type { ResponseHead } from './wire/response-head.ts';

/** A strong entity tag, or a date of last modification that was old enough to be one's only. */
export type Validator = { kind: 'etag'; value: string } | { kind: 'lastModified'; value: string };

const strongTag = /^"[\u0021\u0023-\u007e\u0080-\u00ff]*"$/;

export function findValidator(head: ResponseHead): Validator | undefined {
  const etag = head.header('etag');
  if (etag !== undefined && strongTag.test(etag)) return { kind: 'etag', value: etag };
  const lastModified = head.header('last-modified');
  const modifiedMs = Date.parse(lastModified ?? '');
  const answeredMs = Date.parse(head.header('date') ?? '');
  // Section 8.8.2.2: a file that was changed in the second of the answer may change again within it.
  if (lastModified !== undefined && answeredMs - modifiedMs >= 1000) return { kind: 'lastModified', value: lastModified };
  return undefined;
}

/** Headers that make a request fail with 412 when the source is another version. */
export function conditionOf(validator: Validator | undefined): Record<string, string> {
  switch (validator?.kind) {
    case undefined:
      return {};
    case 'etag':
      return { 'if-match': validator.value };
    case 'lastModified':
      return { 'if-unmodified-since': validator.value };
  }
}

/**
 * How an answer shows another version than the one that was found first, in words; undefined when it shows none. Servers that ignore
 * conditions are found out by this.
 */
export function differenceFrom(
  first: { validator: Validator | undefined; etag: string | undefined },
  head: ResponseHead,
): string | undefined {
  const etag = head.header('etag');
  if (first.etag !== undefined && etag !== undefined && etag !== first.etag) return 'its ETag is another one';
  const lastModified = head.header('last-modified');
  if (first.validator?.kind === 'lastModified' && lastModified !== undefined && lastModified !== first.validator.value) {
    return 'its Last-Modified is another one';
  }
  return undefined;
}
