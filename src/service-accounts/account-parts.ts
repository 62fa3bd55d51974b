import type { Operations } from '../operations/operations.ts';

/** What ServiceAccountService is made of. */
export interface AccountParts {
  operations: Operations;
}
