// What a snapshot adds to the snapshot of the same disk before it: its storage_size. It is measured once, when the snapshot is made, and
// stays, whatever happens to the other snapshots.
import { LockMode } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { addedBytes } from '../storage/layer-size.ts';
import type { Layers } from '../storage/layers.ts';
import { Snapshot } from './snapshot.entity.ts';

export interface Growth {
  /** Of the snapshot before; undefined when there is none, null when that one is zeros. */
  before: string | null | undefined;
  root: string | null;
  /** Bytes, a multiple of 4 MiB. */
  addedBytes: number;
}

/** Root of the newest READY snapshot of a disk; undefined when there is none. `lockMode` holds it in the transaction. */
export async function previousRoot(
  em: EntityManager,
  diskId: string,
  lockMode = LockMode.NONE,
): Promise<string | null | undefined> {
  const previous = await em.findOne(
    Snapshot,
    { sourceDiskId: diskId, status: 'READY' },
    { orderBy: { createdAt: 'desc', id: 'desc' }, lockMode },
  );
  return previous === null ? undefined : (previous.layerRoot ?? null);
}

/** How much the layer `root` adds to the newest snapshot of the disk. @throws PageCorruptError, TransientError, signal.reason. */
export async function measureGrowth(
  em: EntityManager,
  layers: Layers,
  { diskId, root, lockMode }: { diskId: string; root: string | null; lockMode?: LockMode },
  signal?: AbortSignal,
): Promise<Growth> {
  const before = await previousRoot(em, diskId, lockMode);
  return { before, root, addedBytes: await addedBytes(layers, before ?? null, root, signal) };
}
