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
    /** What was last asked for. Whether it may act now also depends on the times below: active-account.ts. */
    status: text().$type<ServiceAccountStatus>(),
    /** When it stops working. */
    expiresAt: instant().nullable(),
    /** When a suspension ends by itself. */
    suspendedUntil: instant().nullable(),
    /** About when it last signed in with a key. */
    lastAuthenticatedAt: instant().nullable(),
  },
  uniques: [{ name: 'service_accounts_name_unique', properties: ['folderId', 'name'] }],
  indexes: [{ name: 'service_accounts_folder_index', properties: ['folderId', 'id'] }],
});

export class ServiceAccount extends ServiceAccountSchema.class {}
ServiceAccountSchema.setClass(ServiceAccount);
export { ServiceAccountSchema };
