// Delete of images, disks and snapshots. A READY one goes in the method's own transaction; its bytes are left to garbage collection,
// since others may share them. A CREATING one is marked, its create is cancelled, and a job ends the delete when the create has ended.
import type { EntityManager } from '@mikro-orm/postgresql';
import { removeBindings } from '../iam/access-bindings.ts';
import { authorize } from '../iam/authorize.ts';
import type { Call } from '../iam/call.ts';
import type { OperationMessage } from '../operations/operation.mapper.ts';
import type { Operations } from '../operations/operations.ts';
import { packedEmpty, type PackedMessage } from '../operations/pack.ts';
import { deleteJobKind, type DeletePayload } from './delete.job.ts';
import { lockAuthorized, requireResource } from './require.ts';
import { describeOperation, resourceOf, type ResourceType, type StoredResource } from './resource-type.ts';
import { changeStatus } from './status.ts';

export interface DeleteOrder<Entity extends StoredResource> {
  type: ResourceType<Entity>;
  id: string;
  metadata: PackedMessage;
  /** Before a READY one goes, in the transaction, with its row locked: what else goes, or why it cannot. */
  beforeRemoval?: (em: EntityManager, row: Entity) => Promise<void>;
}

export async function deleteResource<Entity extends StoredResource>(
  operations: Operations,
  call: Call,
  { type, id, metadata, beforeRemoval }: DeleteOrder<Entity>,
): Promise<OperationMessage> {
  const found = await requireResource(call.em, type, id);
  const resource = resourceOf(type, found);
  await authorize(call, `${type.permissions}.delete`, resource);
  const description = describeOperation('Delete', type);
  return operations.begin(call, async (em) => {
    const row = await lockAuthorized(em, type, found);
    const running = await operations.running(em, id, description);
    if (running !== undefined) return running;
    const operation = { folderId: row.folderId, resourceId: id, resourceKind: type.kind, description, metadata };
    if (row.status !== 'READY') {
      if (row.status === 'CREATING') {
        changeStatus(type.noun, row, 'DELETING');
        await operations.requestCancel(em, id);
      }
      // One that is DELETING with nothing running was left by a delete that failed: this one tries again.
      const payload: DeletePayload = { id };
      return { ...operation, countsAsRunning: false, job: { kind: deleteJobKind(type), payload, unconditional: true } };
    }
    await beforeRemoval?.(em, row);
    await removeBindings(em, resource);
    em.remove(row);
    return { ...operation, response: packedEmpty, removesResource: true, freesData: true };
  });
}
