import { DomainError } from '../platform/errors.ts';

/** Differences between the clocks of clients and ours: Terraform sends the time that it has. */
const clockSkewMs = 60_000;

/**
 * Folders and clouds are empty when they are deleted, so there is nothing to wait for: they go at once, as `delete_after` in the past
 * asks for. @throws DomainError UNIMPLEMENTED for a time to come.
 */
export function assertDeletedNow(deleteAfter: Date | undefined, now = Date.now()): void {
  if (deleteAfter !== undefined && deleteAfter.getTime() > now + clockSkewMs) {
    throw new DomainError(
      'UNIMPLEMENTED',
      'delete_after: a delete cannot be put off; leave it out, or give a time that has passed',
    );
  }
}
