import type { Operations } from '../operations/operations.ts';

/** What KeyService is made of. */
export interface KeyParts {
  operations: Operations;
}
