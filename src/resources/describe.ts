import type { EntityManager } from '@mikro-orm/postgresql';
import { invalidArgument } from '../platform/errors.ts';
import { assertNameFree, type NamedKind, namespaceOf } from './unique-name.ts';

/** What an Update of every kind can change. */
export const describedFields = ['name', 'description', 'labels'] as const;

interface Described {
  name: string;
  description: string;
  labels: Record<string, string>;
}

/**
 * Sets those of name, description and labels that the update's mask names, on a row that is locked. Labels are replaced as a whole
 * (facts: api-design-guide, standard methods). @throws DomainError ALREADY_EXISTS.
 */
export async function describe<Entity extends Described>(
  em: EntityManager,
  kind: NamedKind<Entity>,
  row: Entity,
  fields: ReadonlySet<string>,
  wanted: Described,
): Promise<void> {
  if (fields.has('name') && wanted.name !== row.name) {
    const parentId = Reflect.get(row, namespaceOf(kind).property) as string;
    await assertNameFree(em, kind, parentId, wanted.name);
    row.name = wanted.name;
  }
  if (fields.has('description')) row.description = wanted.description;
  if (fields.has('labels')) row.labels = wanted.labels;
}

/**
 * For kinds that always have a name: none is no default to go back to, whether the mask names it or there is no mask.
 * @throws DomainError INVALID_ARGUMENT.
 */
export function assertNamed(fields: ReadonlySet<string>, { name }: Pick<Described, 'name'>): void {
  if (fields.has('name') && name === '') {
    throw invalidArgument('name', 'must not be empty; leave it out of update_mask to keep the name');
  }
}
