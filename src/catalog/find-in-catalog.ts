// Lists that stand in the code: what a request may name of them.
import { invalidArgument } from '../platform/errors.ts';

/** What a request's `field` names. @throws DomainError INVALID_ARGUMENT that tells the choices. */
export function findInCatalog<Item extends { id: string }>(field: string, items: readonly Item[], id: string): Item {
  const item = items.find((known) => known.id === id);
  if (item === undefined) {
    const choices = items.map((known) => known.id).join(', ');
    throw invalidArgument(field, `there is no "${id.slice(0, 50)}"; choose from ${choices}`);
  }
  return item;
}
