// Pages of a list that is known from the start and small. Their tokens say at which item the next page starts.
import { parsePageSize } from './list-page.ts';
import { decodePageToken, encodePageToken } from './page-token.ts';

export interface FixedQuery {
  /** What must be the same on the next page: the method, and what the request asks for. */
  query: readonly string[];
  pageSize: bigint | number;
  pageToken: string;
}

/** `items` in their order. @throws DomainError INVALID_ARGUMENT naming page_size or page_token. */
export function listFixed<Item>(
  items: readonly Item[],
  { query, pageSize, pageToken }: FixedQuery,
): { items: Item[]; nextPageToken: string } {
  const bound = JSON.stringify(query);
  const start = pageToken === '' ? 0 : Number(decodePageToken(bound, pageToken, false).key);
  const end = start + parsePageSize(pageSize);
  return {
    items: items.slice(start, end),
    nextPageToken: end < items.length ? encodePageToken(bound, { key: String(end) }) : '',
  };
}
