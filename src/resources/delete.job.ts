// Ends the delete of something whose create was still running: waits until the cancelled create has ended, which removes the row, and
// removes what is left when the create had no say any more.
import type { FilterQuery } from '@mikro-orm/core';
import { removeBindings } from '../iam/access-bindings.ts';
import type { JobHandler } from '../operations/job-handler.ts';
import type { Operations } from '../operations/operations.ts';
import { packedEmpty } from '../operations/pack.ts';
import { type ResourceType, type StoredResource } from './resource-type.ts';

export type DeletePayload = { id: string };

/** `image.delete`. */
export const deleteJobKind = ({ noun }: Pick<ResourceType<StoredResource>, 'noun'>): string => `${noun.toLowerCase()}.delete`;

export const deleteJob = <Entity extends StoredResource>(
  type: ResourceType<Entity>,
  operations: Operations,
): JobHandler<DeletePayload, never> => ({
  kind: deleteJobKind(type),
  async run({ payload: { id }, operationId, signal }) {
    await operations.whenOthersEnded(id, operationId, signal);
    return async (em) => {
      await removeBindings(em, { kind: type.kind, id });
      await em.nativeDelete(type.entity, { id } as FilterQuery<NoInfer<Entity>>);
      return packedEmpty;
    };
  },
  // A delete is never given up half-way; the row stays DELETING until a later attempt ends it.
  async abandon() {},
});
