// A disk: a base layer, plus what was written since the last commit (DiskContents). Only the base stands in this row.
import { defineEntity, p } from '@mikro-orm/core';
import type { HardwareGeneration, Os } from '../catalog/guest.ts';
import { instant, int8, text } from '../db/columns.ts';
import type { ResourceStatus } from '../resources/status.ts';

const DiskSchema = defineEntity({
  name: 'Disk',
  tableName: 'disks',
  properties: {
    id: text().primary(),
    folderId: text(),
    createdAt: instant(),
    name: text(),
    description: text(),
    labels: p.json<Record<string, string>>(),
    typeId: text(),
    zoneId: text(),
    /** Bytes; grows, never shrinks. What lies past the end of the base is zeros. */
    size: int8(),
    /** Bytes that a guest sees as the physical sector. */
    blockSize: p.integer(),
    productIds: p.array().columnType('text[]'),
    status: text().$type<ResourceStatus>(),
    /** What it was made from, empty when not from that: echoed to clients, who may have deleted it since. */
    sourceImageId: text(),
    sourceSnapshotId: text(),
    /** Not in the API: carried from an image to the images made of the disk. */
    os: p.json<Os>(),
    hardwareGeneration: p.json<HardwareGeneration>(),
    /** Empty: none. */
    placementGroupId: text(),
    /** 0: any. */
    placementGroupPartition: p.integer(),
    /** Address of the base's root page, lower-case hex; null: zeros. */
    layerRoot: text().nullable(),
    /** The machine that holds what was written and is not in the base yet; null when there is nothing such. */
    machineId: text().nullable(),
    /** The highest number that a generation of its writes has had: none is given twice. */
    lastGeneration: p.integer().default(0),
  },
  uniques: [{ name: 'disks_folder_name_unique', properties: ['folderId', 'name'], where: "name <> ''" }],
  indexes: [
    { name: 'disks_folder_index', properties: ['folderId', 'id'] },
    { name: 'disks_machine_index', properties: ['machineId'], where: 'machine_id is not null' },
  ],
});

export class Disk extends DiskSchema.class {}
DiskSchema.setClass(Disk);
export { DiskSchema };
