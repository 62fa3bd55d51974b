// A snapshot: a row with the root of the layer that a disk was at one moment. READY bytes never change.
import { defineEntity, p } from '@mikro-orm/core';
import type { HardwareGeneration, Os } from '../catalog/guest.ts';
import { instant, int8, text } from '../db/columns.ts';
import type { ResourceStatus } from '../resources/status.ts';

const SnapshotSchema = defineEntity({
  name: 'Snapshot',
  tableName: 'snapshots',
  properties: {
    id: text().primary(),
    folderId: text(),
    createdAt: instant(),
    name: text(),
    description: text(),
    labels: p.json<Record<string, string>>(),
    /** Bytes that it added to the snapshot of the same disk before it, a multiple of 4 MiB; 0 until READY. */
    storageSize: int8(),
    /** Size of the disk at that moment, bytes. */
    diskSize: int8(),
    productIds: p.array().columnType('text[]'),
    status: text().$type<ResourceStatus>(),
    /** The disk may have been deleted since. */
    sourceDiskId: text(),
    /** Not in the API: carried from the disk to what is made of the snapshot. */
    os: p.json<Os>(),
    hardwareGeneration: p.json<HardwareGeneration>(),
    /** Address of the layer's root page, lower-case hex; null: zeros, or not READY yet. */
    layerRoot: text().nullable(),
  },
  uniques: [
    { name: 'snapshots_folder_name_unique', properties: ['folderId', 'name'], where: "name <> ''" },
    // One snapshot of a disk is taken at a time.
    { name: 'snapshots_creating_unique', properties: ['sourceDiskId'], where: "status = 'CREATING'" },
  ],
  indexes: [
    { name: 'snapshots_folder_index', properties: ['folderId', 'id'] },
    { name: 'snapshots_disk_index', properties: ['sourceDiskId', 'createdAt', 'id'] },
  ],
});

export class Snapshot extends SnapshotSchema.class {}
SnapshotSchema.setClass(Snapshot);
export { SnapshotSchema };
