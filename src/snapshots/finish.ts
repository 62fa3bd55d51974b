// How the create of a snapshot that took a capture of its disk ends. finishSnapshot and abandonSnapshot are called in the transaction
// that ends its operation; measureGrowth (growth.ts) tells `storageSize` before it.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { PackedMessage } from '../operations/pack.ts';
import { lockResource } from '../resources/require.ts';
import { changeStatus } from '../resources/status.ts';
import { Snapshot } from './snapshot.entity.ts';
import { packSnapshot } from './snapshot.mapper.ts';
import { snapshotResource } from './snapshot-resource.ts';

/**
 * The snapshot is READY: `root` holds all of it, durable, null for zeros. Answers the operation's response.
 * @throws DomainError NOT_FOUND, FAILED_PRECONDITION when it is being deleted.
 */
export async function finishSnapshot(
  em: EntityManager,
  id: string,
  { root, storageSize }: { root: string | null; storageSize: number },
): Promise<PackedMessage> {
  const snapshot = await lockResource(em, snapshotResource, id);
  changeStatus('Snapshot', snapshot, 'READY');
  snapshot.storageSize = storageSize;
  snapshot.layerRoot = root;
  return packSnapshot(snapshot);
}

/** The create has failed or was cancelled: nothing of the snapshot stays. */
export async function abandonSnapshot(em: EntityManager, id: string): Promise<void> {
  await em.nativeDelete(Snapshot, { id });
}
