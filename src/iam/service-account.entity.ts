// A service account: the identity of a program. It signs in with authorized keys.
import { defineEntity, p } from '@mikro-orm/core';
import { instant, text } from '../db/columns.ts';

export type ServiceAccountStatus = 'CREATING' | 'ACTIVE' | 'SUSPENDED' | 'DELETING';

const ServiceAccountSchema = defineEntity({
  name: 'ServiceAccount',
  tableName: 'service_accounts',
  properties: {
    id: text().primary(),
    folderId: text(),
    createdAt: instant(),
    name: text(),
    description: text(),
    labels: p.json<Record<string, string>>(),
    /** Tokens are given to ACTIVE accounts only, and end with that status. */
    status: text().$type<ServiceAccountStatus>(),
  },
  uniques: [{ name: 'service_accounts_name_unique', properties: ['folderId', 'name'] }],
  indexes: [{ name: 'service_accounts_folder_index', properties: ['folderId', 'id'] }],
});

export class ServiceAccount extends ServiceAccountSchema.class {}
ServiceAccountSchema.setClass(ServiceAccount);
export { ServiceAccountSchema };
