import type { EntityManager } from '@mikro-orm/postgresql';
import type { ResourceType, StoredResource } from './resource-type.ts';
import { assertNameFree } from './unique-name.ts';

/** What an Update of every kind can change. */
export const describedFields = ['name', 'description', 'labels'] as const;

/**
 * Sets those of name, description and labels that the update's mask names, on a row that is locked. Labels are replaced as a whole
 * (facts: api-design-guide, standard methods). @throws DomainError ALREADY_EXISTS.
 */
export async function describe<Entity extends StoredResource>(
  em: EntityManager,
  type: ResourceType<Entity>,
  row: Entity,
  fields: ReadonlySet<string>,
  wanted: Pick<StoredResource, (typeof describedFields)[number]>,
): Promise<void> {
  if (fields.has('name') && wanted.name !== row.name) {
    await assertNameFree(em, type, row.folderId, wanted.name);
    row.name = wanted.name;
  }
  if (fields.has('description')) row.description = wanted.description;
  if (fields.has('labels')) row.labels = wanted.labels;
}
