// A cloud: the top of the tree of resources. (Clouds and folders stand below iam, since authorize inherits roles along them; the
// services that show them are in src/folders.)
import { defineEntity, p } from '@mikro-orm/core';
import { instant, text } from '../../db/columns.ts';

const CloudSchema = defineEntity({
  name: 'Cloud',
  tableName: 'clouds',
  properties: {
    id: text().primary(),
    organizationId: text(),
    createdAt: instant(),
    name: text(),
    description: text(),
    labels: p.json<Record<string, string>>(),
    /** True for the cloud of `standard-images`: it has no quotas and cannot be changed by callers. */
    system: p.boolean(),
  },
  uniques: [{ name: 'clouds_name_unique', properties: ['organizationId', 'name'] }],
});

export class Cloud extends CloudSchema.class {}
CloudSchema.setClass(Cloud);
export { CloudSchema };
