import { Snapshot as SnapshotMessage, Snapshot_Status } from '../../generated/yandex/cloud/compute/v1/snapshot.ts';
import { toHardwareGenerationMessage } from '../catalog/guest.mapper.ts';
import { pack, type PackedMessage } from '../operations/pack.ts';
import type { Snapshot } from './snapshot.entity.ts';

export function toSnapshotMessage(snapshot: Snapshot): SnapshotMessage {
  return {
    id: snapshot.id,
    folderId: snapshot.folderId,
    createdAt: snapshot.createdAt,
    name: snapshot.name,
    description: snapshot.description,
    labels: snapshot.labels,
    storageSize: BigInt(snapshot.storageSize),
    diskSize: BigInt(snapshot.diskSize),
    productIds: snapshot.productIds,
    status: Snapshot_Status[snapshot.status],
    sourceDiskId: snapshot.sourceDiskId,
    hardwareGeneration: toHardwareGenerationMessage(snapshot.hardwareGeneration),
    kmsKey: undefined,
  };
}

/** The snapshot as an operation's response. */
export const packSnapshot = (snapshot: Snapshot): PackedMessage => pack(SnapshotMessage, toSnapshotMessage(snapshot));
