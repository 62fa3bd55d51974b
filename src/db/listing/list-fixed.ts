// Lists that stand in the code, answered page by page with tokens as of every other list.
import { parsePageSize } from './list-page.ts';
import { decodePageToken, encodePageToken } from './page-token.ts';

/**
 * `items` by ascending id. `query` is what must be the same on the next page: the method, and what else the request asks for.
 * @throws DomainError INVALID_ARGUMENT naming page_size or page_token.
 */
export function pageOf<Item extends { id: string }>(
  query: string,
  items: readonly Item[],
  page: { pageSize: bigint; pageToken: string },
): { items: Item[]; nextPageToken: string } {
  const pageSize = parsePageSize(page.pageSize);
  const after = page.pageToken === '' ? -1 : Number(decodePageToken(query, page.pageToken, false).key);
  const ordered = items.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const end = after + 1 + pageSize;
  // The place and not the id: ids of quotas have dots.
  const nextPageToken = ordered.length > end ? encodePageToken(query, { key: String(end - 1) }) : '';
  return { items: ordered.slice(after + 1, end), nextPageToken };
}
