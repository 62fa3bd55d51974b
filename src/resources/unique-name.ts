import type { EntityName, FilterQuery } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { lockName } from '../db/name-lock.ts';
import { alreadyExists } from '../platform/errors.ts';

/** A kind of thing with names, and what they are unique in. */
export interface NamedKind<Entity> {
  /** As messages begin with it: `Image`. */
  readonly noun: string;
  readonly entity: EntityName<Entity>;
  readonly table: string;
  /** Default: the folder. */
  readonly namespace?: Namespace;
}

interface Namespace {
  readonly noun: 'folder' | 'cloud' | 'organization';
  /** The property of the entity that holds its id. */
  readonly property: 'folderId' | 'cloudId' | 'organizationId';
}

const folder: Namespace = { noun: 'folder', property: 'folderId' };

export const namespaceOf = <Entity>({ namespace = folder }: NamedKind<Entity>): Namespace => namespace;

/**
 * Names are unique per folder and kind when not empty; a name is free again when the delete of its owner has ended. `parentId` is the
 * folder's id, or of whatever the kind's names are unique in. Call it in the transaction that gives the name, after every row that it
 * locks. @throws DomainError ALREADY_EXISTS.
 */
export async function assertNameFree<Entity extends object>(
  em: EntityManager,
  kind: NamedKind<Entity>,
  parentId: string,
  name: string,
): Promise<void> {
  if (name === '') return;
  const { noun, property } = namespaceOf(kind);
  await lockName(em, kind.table, parentId, name);
  const taken = await em.count(kind.entity, { [property]: parentId, name } as FilterQuery<NoInfer<Entity>>);
  if (taken > 0) throw alreadyExists(kind.noun, name, `${noun} ${parentId}`);
}
