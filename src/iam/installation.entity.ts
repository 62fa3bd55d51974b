// One row: which cloud, folder and service account the first start made. Their names may change, these ids do not.
import { defineEntity } from '@mikro-orm/core';
import { instant, text } from '../db/columns.ts';

/** The row's id. */
export const installationId = 'installation';

const InstallationSchema = defineEntity({
  name: 'Installation',
  tableName: 'installation',
  properties: {
    /** Always `installationId`. */
    id: text().primary(),
    organizationId: text(),
    cloudId: text(),
    folderId: text(),
    serviceAccountId: text(),
    createdAt: instant(),
  },
});

export class Installation extends InstallationSchema.class {}
InstallationSchema.setClass(Installation);
export { InstallationSchema };
