// Access bindings of images, disks and snapshots.
import type { Operations } from '../operations/operations.ts';
import { type Bindable, bindingMethods } from './bindable.ts';
import { lockAuthorized, requireResource } from './require.ts';
import { resourceOf, type ResourceType, type StoredResource } from './resource-type.ts';
import { assertReady } from './status.ts';

export const accessBindingMethods = <Entity extends StoredResource>(type: ResourceType<Entity>, operations: Operations) =>
  bindingMethods(bindable(type), operations);

/** They can be shared while they are READY. */
const bindable = <Entity extends StoredResource>(type: ResourceType<Entity>): Bindable => ({
  permissions: type.permissions,
  locate: async (em, id) => resourceOf(type, await requireResource(em, type, id)),
  async hold(em, { id, folderId }) {
    const row = await lockAuthorized(em, type, { id, folderId: folderId! });
    assertReady(type.noun, row);
    return row;
  },
});
