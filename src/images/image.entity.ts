// An image: a row with the root of an immutable layer. READY bytes never change.
import { defineEntity, p } from '@mikro-orm/core';
import type { HardwareGeneration, Os } from '../catalog/guest.ts';
import { instant, int8, text } from '../db/columns.ts';
import type { ResourceStatus } from '../resources/status.ts';

const ImageSchema = defineEntity({
  name: 'Image',
  tableName: 'images',
  properties: {
    id: text().primary(),
    folderId: text(),
    createdAt: instant(),
    name: text(),
    description: text(),
    labels: p.json<Record<string, string>>(),
    family: text(),
    /** Virtual size of the disk, bytes; 0 until the source's header is read. */
    size: int8(),
    /** Bytes that the image's own non-zero chunks hold, a multiple of 4 MiB. */
    storageSize: int8(),
    /** Smallest disk that can be made of it, bytes; 0 until it is known. */
    minDiskSize: int8(),
    productIds: p.array().columnType('text[]'),
    status: text().$type<ResourceStatus>(),
    os: p.json<Os>(),
    hardwareGeneration: p.json<HardwareGeneration>(),
    pooled: p.boolean(),
    /** Address of the layer's root page, lower-case hex; null: zeros, or not READY yet. */
    layerRoot: text().nullable(),
  },
  uniques: [{ name: 'images_folder_name_unique', properties: ['folderId', 'name'], where: "name <> ''" }],
  indexes: [
    { name: 'images_folder_index', properties: ['folderId', 'id'] },
    { name: 'images_family_index', properties: ['folderId', 'family', 'createdAt', 'id'], where: "family <> ''" },
  ],
});

export class Image extends ImageSchema.class {}
ImageSchema.setClass(Image);
export { ImageSchema };
