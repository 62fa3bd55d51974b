import type { Operations } from '../operations/operations.ts';

/** What FolderService and CloudService are made of. */
export interface FolderParts {
  operations: Operations;
}

/** The folder of an operation on a cloud: it lies in none. */
export const noFolder = '';
