// Lists that stand in the code: looked up, and answered page by page with tokens as of every other list.
import { parsePageSize } from '../db/listing/list-page.ts';
import { decodePageToken, encodePageToken } from '../db/listing/page-token.ts';
import { invalidArgument } from '../platform/errors.ts';

/** `items` by ascending id. @throws DomainError INVALID_ARGUMENT naming page_size or page_token. */
export function pageOf<Item extends { id: string }>(
  method: string,
  items: readonly Item[],
  query: { pageSize: bigint; pageToken: string },
): { items: Item[]; nextPageToken: string } {
  const pageSize = parsePageSize(query.pageSize);
  const after = query.pageToken === '' ? '' : decodePageToken(method, query.pageToken, false).key;
  const rest = items.filter(({ id }) => id > after);
  const page = rest.slice(0, pageSize);
  const nextPageToken = rest.length > pageSize ? encodePageToken(method, { key: page.at(-1)!.id }) : '';
  return { items: page, nextPageToken };
}

/** What a request's `field` names. @throws DomainError INVALID_ARGUMENT that tells the choices. */
export function findInCatalog<Item extends { id: string }>(field: string, items: readonly Item[], id: string): Item {
  const item = items.find((known) => known.id === id);
  if (item === undefined) {
    const choices = items.map((known) => known.id).join(', ');
    throw invalidArgument(field, `there is no "${id.slice(0, 50)}"; choose from ${choices}`);
  }
  return item;
}
