// The life of an image, a disk and a snapshot: one table for all three. Nothing else assigns a status.
import { failedPrecondition } from '../platform/errors.ts';

export type ResourceStatus = 'CREATING' | 'READY' | 'ERROR' | 'DELETING';

export const resourceStatuses: readonly ResourceStatus[] = ['CREATING', 'READY', 'ERROR', 'DELETING'];

interface WithStatus {
  id: string;
  status: ResourceStatus;
}

/** Rows of failed and cancelled creates are removed, so ERROR is never entered; clients know the value. */
const next: Record<ResourceStatus, readonly ResourceStatus[]> = {
  CREATING: ['READY', 'DELETING'],
  READY: ['DELETING'],
  ERROR: ['DELETING'],
  DELETING: [],
};

/** `noun` is `Image`, as messages name it. @throws DomainError FAILED_PRECONDITION when it is in no state to become `status`. */
export function changeStatus(noun: string, resource: WithStatus, status: ResourceStatus): void {
  if (!next[resource.status].includes(status)) {
    throw failedPrecondition(`${noun} ${resource.id} is ${resource.status}: it cannot become ${status}`);
  }
  resource.status = status;
}

/** @throws DomainError FAILED_PRECONDITION unless it can be changed, shared and used as a source. */
export function assertReady(noun: string, resource: WithStatus): void {
  if (resource.status !== 'READY') {
    throw failedPrecondition(`${noun} ${resource.id} is ${resource.status}: wait until it is READY`);
  }
}
