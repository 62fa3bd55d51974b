// Clouds and folders as kinds with names, and which of them belong to everybody: those are the service's own.
import { standardImagesFolderId } from '../iam/bootstrap.ts';
import { Cloud } from '../iam/hierarchy/cloud.entity.ts';
import { Folder } from '../iam/hierarchy/folder.entity.ts';
import { failedPrecondition } from '../platform/errors.ts';
import type { NamedKind } from '../resources/unique-name.ts';

export const folderKind: NamedKind<Folder> = {
  noun: 'Folder',
  entity: Folder,
  table: 'folders',
  namespace: { noun: 'cloud', property: 'cloudId' },
};

export const cloudKind: NamedKind<Cloud> = {
  noun: 'Cloud',
  entity: Cloud,
  table: 'clouds',
  namespace: { noun: 'organization', property: 'organizationId' },
};

/** @throws DomainError FAILED_PRECONDITION for `standard-images`, which clients look for under that very id and name. */
export function assertFolderCanChange({ id }: Folder): void {
  if (id === standardImagesFolderId)
    throw failedPrecondition(`Folder ${id} belongs to everybody: it cannot be changed or deleted`);
}

/** @throws DomainError FAILED_PRECONDITION for the cloud of `standard-images`. */
export function assertCloudCanChange({ id, system }: Cloud): void {
  if (system) throw failedPrecondition(`Cloud ${id} belongs to everybody: it cannot be changed or deleted`);
}
