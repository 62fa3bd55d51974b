// A folder: holds resources, and is the usual place to give roles.
import { defineEntity, p } from '@mikro-orm/core';
import { instant, text } from '../../db/columns.ts';

export type FolderStatus = 'ACTIVE' | 'DELETING' | 'PENDING_DELETION';

const FolderSchema = defineEntity({
  name: 'Folder',
  tableName: 'folders',
  properties: {
    id: text().primary(),
    cloudId: text(),
    createdAt: instant(),
    name: text(),
    description: text(),
    labels: p.json<Record<string, string>>(),
    status: text().$type<FolderStatus>(),
  },
  uniques: [{ name: 'folders_name_unique', properties: ['cloudId', 'name'] }],
  indexes: [{ name: 'folders_cloud_index', properties: ['cloudId', 'id'] }],
});

export class Folder extends FolderSchema.class {}
FolderSchema.setClass(Folder);
export { FolderSchema };
