// A role given to a subject on a resource, and so on everything below it.
import { defineEntity, p } from '@mikro-orm/core';
import { text } from '../db/columns.ts';
import type { ResourceKind } from './resource.ts';

const AccessBindingSchema = defineEntity({
  name: 'AccessBinding',
  tableName: 'access_bindings',
  properties: {
    resourceKind: text().$type<ResourceKind>().primary(),
    resourceId: text().primary(),
    roleId: text().primary(),
    subjectType: text().primary(),
    subjectId: text().primary(),
    /** Order within the resource, as the caller gave it; unique there. */
    position: p.integer(),
  },
  indexes: [{ name: 'access_bindings_subject_index', properties: ['subjectId', 'subjectType'] }],
});

export class AccessBinding extends AccessBindingSchema.class {}
AccessBindingSchema.setClass(AccessBinding);
export { AccessBindingSchema };
